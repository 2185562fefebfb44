//go:build linux

package microvm

import (
	"strings"
	"testing"
)

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestConsoleSeesItsMarkers(t *testing.T) {
	c := newConsole()
	text := "boot\r\n[ 1.0] " + agentStarted + " pid=9\r\n"
	for i := range text { // one byte at a time, as a slow guest
		if _, err := c.Write([]byte{text[i]}); err != nil {
			t.Fatal(err)
		}
		if seen, want := closed(c.started), strings.Contains(text[:i+1], agentStarted); seen != want {
			t.Fatalf("after %q: started %v", text[:i+1], seen)
		}
	}
	if closed(c.stuck) {
		t.Error("taken for stuck")
	}
	if _, err := c.Write([]byte("APIC frequency too slow, " + noTimer + "\n" + agentStarted)); err != nil {
		t.Fatal(err)
	}
	if !closed(c.stuck) {
		t.Error("not taken for stuck")
	}
	if !strings.HasPrefix(c.String(), "boot\n") || strings.Contains(c.String(), "\r") {
		t.Errorf("text %q", c.String())
	}
}

func TestConsoleKeepsTheNewest(t *testing.T) {
	c := newConsole()
	line := strings.Repeat("x", 1023) + "\n"
	for range 5 << 10 {
		_, _ = c.Write([]byte(line))
	}
	_, _ = c.Write([]byte("the end"))
	if n := len(c.String()); n < consoleLimit || n > 3*consoleLimit {
		t.Errorf("%d bytes kept", n)
	}
	if tail := c.tail(1); tail != "the end" {
		t.Errorf("tail %q", tail)
	}
}
