//go:build linux

// Command bench measures what docs/benchmarks.md promises: each figure is a
// ratio against the thing it is compared with, both measured in this run,
// interleaved round by round, because absolute times mean nothing on a noisy
// machine. It is a benchmark, not a test: a missed goal is printed, not an
// error.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"
)

// A measurement is one line or more of the table.
type measurement struct {
	id  string // as -only selects it
	run func(context.Context, *bench) ([]row, error)
}

// A row is one line of the table.
type row struct {
	id      string
	what    string // what was measured
	against string // with what it is compared; "–" for an absolute figure
	goal    string
	result  string // with its range, where it is a ratio
	met     bool
	note    string // what else is worth knowing; may be empty
}

// bench is what every measurement needs.
type bench struct {
	guestd string // path of the agent's binary
	dir    string // scratch directory on a tmpfs
	size   int64  // bytes of a large file
	rounds int    // rounds of a pair of large transfers
}

func measurements() []measurement {
	return []measurement{
		{"P1", execLatency},
		{"P2", uploadFile},
		{"P3", downloadFile},
		{"P4", uploadTree},
		{"P5", withSSH(sshCold, "P5")},
		{"P6", withSSH(sshWarm, "P6")},
		{"P7", withSSH(sshBulk, "P7", "P8")},
		{"P9", withSSH(sftpBulk, "P9")},
		{"P10", withSSH(keyPress, "P10")},
		{"P11", binarySize},
		{"P12", idleMemory},
		{"P13", startUp},
		{"P14", uploadMemory},
		{"P16", manyProcesses},
		{"P17", idleWakeups},
		{"P18/exec", execBesideMany},
		{"P18/list", listMany},
		{"P18/watch", watchMany},
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		fmt.Fprintln(os.Stderr, "bench peer:", servePeer(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == connectCommand {
		if err := connectTo(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench connect:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var b bench
	guestd := flag.String("guestd", "bin/guestd", "the agent's `binary`")
	out := flag.String("out", "", "write the table to this `file` too")
	only := flag.String("only", "", "measure only what this `regexp` matches as a whole, for example P[23] or P18/.*")
	flag.Int64Var(&b.size, "size", 1<<30, "size of a large file in `bytes`")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of each pair of large transfers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	selected, err := regexp.Compile("^(?:" + *only + ")$")
	if err != nil {
		return err
	}
	if b.dir, err = scratch(); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.guestd = *guestd

	var rows []row
	for _, m := range measurements() {
		if *only != "" && !selected.MatchString(m.id) {
			continue
		}
		start := time.Now()
		fmt.Fprintf(os.Stderr, "%s…", m.id)
		got, err := m.run(ctx, &b)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			return fmt.Errorf("%s: %w", m.id, err)
		}
		fmt.Fprintf(os.Stderr, " %.0f s\n", time.Since(start).Seconds())
		for _, r := range got {
			fmt.Fprintf(os.Stderr, "   %s: %s (goal %s)\n", r.what, r.result, r.goal)
		}
		rows = append(rows, got...)
	}
	text := table(rows)
	fmt.Print(text)
	if *out == "" || *only != "" {
		return nil
	}
	return os.WriteFile(*out, []byte(document(text, rows)), 0o644)
}

// scratch is a directory on a tmpfs, so that no disk is measured.
func scratch() (string, error) {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return os.MkdirTemp("/dev/shm", "guestd-bench")
	}
	return os.MkdirTemp("", "guestd-bench")
}
