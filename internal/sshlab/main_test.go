//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"
)

// helperVariable makes the test binary be sshlab.
const helperVariable = "SSHLAB_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "" {
		os.Exit(m.Run())
	}
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sshlab:", err)
		os.Exit(1)
	}
}

// waitForFile waits until a file is there.
func waitForFile(t *testing.T, name string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		_, err := os.Stat(name)
		switch {
		case err == nil:
			return
		case !errors.Is(err, fs.ErrNotExist):
			t.Fatal(err)
		case time.Now().After(deadline):
			t.Fatalf("%s does not appear", name)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
