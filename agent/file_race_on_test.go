//go:build race

package agent

// raceEnabled: what memory and time are used says nothing about the agent.
const raceEnabled = true
