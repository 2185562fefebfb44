//go:build !race

package conformance

// raceEnabled: see the other file.
const raceEnabled = false
