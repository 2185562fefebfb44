//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// notMeasured is the result of what this machine cannot measure; the row's note
// says why.
const notMeasured = "not measured"

// table is the rows in Markdown.
func table(rows []row) string {
	var s strings.Builder
	s.WriteString("| # | what | compared with | goal | measured | |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		mark := "met"
		switch {
		case r.result == notMeasured:
			mark = "–"
		case !r.met:
			mark = "**missed**"
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | %s |\n", r.id, r.what, r.against, r.goal, r.result, mark)
	}
	return s.String()
}

// document is docs/benchmarks.md.
func document(table string, rows []row) string {
	var s strings.Builder
	s.WriteString(`# Benchmarks

Written by ` + "`make bench`" + `; do not edit. Every figure with a × is a ratio against what it is compared with, both measured in the
same run, interleaved round by round: the median of the rounds' ratios, and in brackets the smallest and the largest. Absolute
figures are of one run of a fresh agent.

`)
	s.WriteString(table)
	s.WriteString("\n## Notes\n\n")
	for _, r := range rows {
		if r.note != "" {
			fmt.Fprintf(&s, "- **%s**, %s: %s\n", r.id, r.what, r.note)
		}
	}
	fmt.Fprintf(&s, "\n## Conditions\n\n- %s\n- %d CPUs, %s/%s, %s\n- The agent and its client talk over a unix socket; files are on a tmpfs.\n- %s, commit %s\n",
		kernel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		time.Now().UTC().Format("2006-01-02"), commit())
	return s.String()
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(release))
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
