//go:build race

package conformance

// raceEnabled: under the race detector everything takes several times as long.
const raceEnabled = true
