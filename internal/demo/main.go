//go:build linux

// Command demo shows guestd's main job in a sandbox, with explained output:
// upload a directory, run a command in it, stream a long-running process, cut
// the connection and reattach without a lost byte, download the result. It
// fails if any of it is not so.
//
// The sandbox is a microVM where QEMU and what it needs are there (make
// setup-vm), else guestd in namespaces of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/guestd/guestd/internal/nsbox"
)

// patience bounds the whole demo: a microVM under emulation takes its time.
const patience = 10 * time.Minute

func main() {
	if nsbox.IsChild() {
		fmt.Fprintln(os.Stderr, "demo:", nsbox.ChildMain())
		os.Exit(1)
	}
	guestd := flag.String("guestd", "bin/guestd", "the agent's `binary`")
	guestctl := flag.String("guestctl", "bin/guestctl", "the command line's `binary`, for the hints")
	kind := flag.String("sandbox", "auto", "microvm, namespaces, or auto")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := run(ctx, *guestd, *guestctl, *kind); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, guestd, guestctl, kind string) error {
	s := &show{guestctl: guestctl, terminal: term.IsTerminal(int(os.Stdout.Fd()))}
	box, err := s.start(ctx, guestd, kind)
	if err != nil {
		return err
	}
	defer box.end(ctx)
	dir, err := os.MkdirTemp("", "guestd-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	d := &demo{show: s, sandbox: box, local: dir}
	for _, act := range []func(context.Context) error{d.meet, d.upload, d.command, d.stream, d.download} {
		if err := act(ctx); err != nil {
			if console := box.console(); console != "" {
				fmt.Fprintf(os.Stderr, "\nthe end of the guest's console:\n%s\n", tail(console, 20))
			}
			return err
		}
	}
	s.timings()
	return nil
}

// A show prints what happens and keeps the timings.
type show struct {
	guestctl string
	terminal bool // stdout is one
	steps    []step
}

type step struct {
	what string
	took time.Duration
}

// Attributes of text, ECMA-48 §8.3.117.
const bold, faint = 1, 2

// style gives text an attribute, on a terminal.
func (s *show) style(attribute int, text string) string {
	if !s.terminal {
		return text
	}
	return fmt.Sprintf("\033[%dm%s\033[0m", attribute, text)
}

func (s *show) title(format string, args ...any) {
	fmt.Printf("\n%s\n", s.style(bold, fmt.Sprintf(format, args...)))
}

func (s *show) say(format string, args ...any) {
	fmt.Printf("  "+format+"\n", args...)
}

// hint tells how to do the same by hand.
func (s *show) hint(format string, args ...any) {
	fmt.Printf("  %s\n", s.style(faint, "$ guestctl "+fmt.Sprintf(format, args...)))
}

// timed runs f and keeps how long it took.
func (s *show) timed(what string, f func() error) error {
	start := time.Now()
	err := f()
	s.steps = append(s.steps, step{what, time.Since(start)})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *show) timings() {
	s.title("Timings")
	for _, step := range s.steps {
		s.say("%-58s %9s", step.what, step.took.Round(100*time.Microsecond))
	}
}

// tail is the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
