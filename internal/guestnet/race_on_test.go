//go:build linux && race

package guestnet_test

// raceFactor is how much dearer the race detector makes this package.
const raceFactor = 6
