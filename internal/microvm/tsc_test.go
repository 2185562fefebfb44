//go:build linux && amd64

package microvm

import "testing"

// The rate is a constant of the machine: what differs between two measurements
// is their error, and the guest's clock would go wrong by as much.
func TestTSCIsMeasuredPrecisely(t *testing.T) {
	first, second := tscKHz(), tscKHz()
	if first < 100_000 || first > 10_000_000 {
		t.Fatalf("%d kHz", first)
	}
	if diff := max(first, second) - min(first, second); diff*1000 > first {
		t.Errorf("%d and %d kHz", first, second)
	}
}
