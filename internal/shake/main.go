// Command shake runs `go test -race` with a standard library whose goroutines
// hesitate at random: at locks, condition variables and channels, and after
// reads and writes of files and sockets. What holds by luck of the scheduler,
// and fails once in a thousand runs, fails often then. Its arguments are those of
// go test:
//
//	go run ./internal/shake -level long -- -run TestNetEnds -count 300 ./client
//
// The first run compiles the standard library anew, which takes a minute. Tests
// that build binaries of their own build ordinary ones.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// levels are what hesitate.go.txt knows by the first letter.
var levels = []string{"short", "often", "long"}

func main() {
	level := flag.String("level", levels[0], "how goroutines hesitate: "+strings.Join(levels, ", ")+"; long is as on a machine with too much to do")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: shake [-level LEVEL] -- ARGUMENTS-OF-GO-TEST...")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *level, flag.Args())
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		os.Exit(max(1, failed.ExitCode())) // go test has said why
	case err != nil:
		fmt.Fprintln(os.Stderr, "shake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, level string, args []string) error {
	if !slices.Contains(levels, level) {
		return fmt.Errorf("level %q is none of %s", level, strings.Join(levels, ", "))
	}
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	dir, err := os.MkdirTemp("", "shake")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := writeOverlay(strings.TrimSpace(string(goroot)), dir)
	if err != nil {
		return err
	}
	test := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-race", "-overlay", overlay}, args)...)
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) }
	test.Env = append(os.Environ(), "SHAKE_LEVEL="+level)
	test.Stdin, test.Stdout, test.Stderr = os.Stdin, os.Stdout, os.Stderr
	return test.Run()
}
