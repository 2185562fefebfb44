//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/parallel"
)

// Bulk over SSH takes processors away, and the end of it gives them back.
func TestProcessorsFit(t *testing.T) {
	runtime.SetDefaultGOMAXPROCS()
	all := runtime.GOMAXPROCS(0)
	if all < 2 {
		t.Skip("one processor cannot be fewer")
	}
	t.Setenv("GOMAXPROCS", "")
	inner, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	l := newFitter().Listener(inner, parallel.Serial)
	defer l.Close()
	go func() {
		if c, err := net.Dial("unix", inner.Addr().String()); err == nil {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A second is time enough for what is in bulk; a busy machine may need
	// several attempts.
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for deadline := time.Now().Add(time.Minute); runtime.GOMAXPROCS(0) != 1; {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("bulk data changed nothing")
		}
	}
	_ = c.Close()
	if got := runtime.GOMAXPROCS(0); got != all {
		t.Errorf("%d processors, and %d before", got, all)
	}
}

func TestProcessorsFixed(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	if newFitter() != nil {
		t.Error("GOMAXPROCS is set, and not what decides")
	}
}
