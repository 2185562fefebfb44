//go:build !race

package agent

// raceEnabled: see the other file.
const raceEnabled = false
