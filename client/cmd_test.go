//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

func TestOutput(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	out, err := c.Command("printf", "%s|", "a b", "", "späße", "\xff\xfe").Output(ctx)
	if want := "a b||späße|\xff\xfe|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestShellEnvAndDir(t *testing.T) {
	c, _ := live(t)
	cmd := sh(c, `printf '%s %s ' "$A" "$B"; pwd`)
	cmd.Env = []string{"A=1", "B=x", "B=\xff"}
	cmd.Dir = "/proc"
	out, err := cmd.Output(within(t))
	if want := "1 \xff /proc\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestExitError(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	_, err := sh(c, "echo out; echo err >&2; exit 7").Output(ctx)
	exit, ok := errors.AsType[*client.ExitError](err)
	if !ok || exit.Code != 7 || exit.Signal != "" || string(exit.Stderr) != "err\n" || exit.ShellCode() != 7 {
		t.Errorf("%#v", err)
	}
	err = sh(c, "kill -9 $$").Run(ctx)
	exit, ok = errors.AsType[*client.ExitError](err)
	if !ok || exit.Signal != client.SIGKILL || exit.Code != -1 || exit.ShellCode() != 137 {
		t.Errorf("%#v", err)
	}
}

func TestStartErrors(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(cmd *client.Cmd)
		is     error
	}{
		{"not in PATH", func(cmd *client.Cmd) { cmd.Args = []string{"no-such-program"} }, exec.ErrNotFound},
		{"missing", func(cmd *client.Cmd) { cmd.Args = []string{"/no/such/program"} }, fs.ErrNotExist},
		{"not executable", func(cmd *client.Cmd) { cmd.Args = []string{plain} }, fs.ErrPermission},
		{"no directory", func(cmd *client.Cmd) { cmd.Dir = "/no/such/dir" }, fs.ErrNotExist},
		{"no user", func(cmd *client.Cmd) { cmd.User = "nobody-of-that-name" }, client.ErrUnknownUser},
		{"no program", func(cmd *client.Cmd) { cmd.Args = nil }, client.ErrInvalidRequest},
		{"NUL", func(cmd *client.Cmd) { cmd.Args = []string{"true", "a\x00b"} }, client.ErrInvalidRequest},
		{"bad entry of Env", func(cmd *client.Cmd) { cmd.Env = []string{"novalue"} }, client.ErrInvalidRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := c.Command("true")
			test.change(cmd)
			err := cmd.Run(ctx)
			if !errors.Is(err, test.is) {
				t.Errorf("got %#v, want %v", err, test.is)
			}
			if _, ok := errors.AsType[*client.ExitError](err); ok {
				t.Error("it is said to have run")
			}
		})
	}
	if infos, err := c.Processes(ctx); err != nil || len(infos) != 0 {
		t.Errorf("processes after all that: %v, %v", infos, err)
	}
}

func TestStdin(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	// More than every buffer on the way.
	in := make([]byte, 3<<20+17)
	for i := range in {
		in[i] = byte(i * i >> 3)
	}
	cmd := c.Command("sha256sum")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output(ctx)
	if want := fmt.Sprintf("%x", sha256.Sum256(in)); err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("got %q, %v, want %s", out, err, want)
	}
}

func TestStdinDoesNotHoldWait(t *testing.T) {
	c, _ := live(t)
	r, w := io.Pipe()
	cmd := c.Command("true")
	cmd.Stdin = r // gives nothing and does not end
	if err := cmd.Run(within(t)); err != nil {
		t.Error(err)
	}
	_ = w.Close()
}

func TestStdinReadError(t *testing.T) {
	c, _ := live(t)
	cmd := c.Command("cat")
	cause := errors.New("no more")
	cmd.Stdin = io.MultiReader(strings.NewReader("some"), errorReader{cause})
	out, err := cmd.Output(within(t))
	if !errors.Is(err, cause) || string(out) != "some" {
		t.Errorf("%q, %v", out, err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// TestStdinPipeOfWhatHasEnded writes more than anybody takes, before Wait.
func TestStdinPipeOfWhatHasEnded(t *testing.T) {
	c, _ := live(t)
	cmd := c.Command("head", "-c", "1")
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	if err := cmd.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(in, zeros{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPipes(t *testing.T) {
	c, _ := live(t)
	cmd := sh(c, `while read line; do echo "<$line>"; echo "$line" >&2; done`)
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	stderr := must[io.ReadCloser](t)(cmd.StderrPipe())
	if err := cmd.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4)
	for _, word := range []string{"a", "b"} {
		if _, err := fmt.Fprintln(in, word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, line); err != nil || string(line) != "<"+word+">\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); len(rest) != 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	// What was in a pipe can be read after Wait.
	if rest, err := io.ReadAll(stderr); string(rest) != "a\nb\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestReadStdoutBeforeStderr(t *testing.T) {
	c, _ := live(t)
	cmd := sh(c, `head -c 60000 /dev/zero >&2; head -c 1000000 /dev/zero`)
	stdoutR, stdoutW := io.Pipe()
	stderrR, stderrW := io.Pipe()
	cmd.Stdout, cmd.Stderr = stdoutW, stderrW
	if err := cmd.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = stdoutW.Close()
		_ = stderrW.Close()
		done <- err
	}()
	if n, err := io.CopyN(io.Discard, stdoutR, 1_000_000); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err := io.CopyN(io.Discard, stderrR, 60_000); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSameWriterKeepsTheOrder(t *testing.T) {
	c, _ := live(t)
	var want strings.Builder
	for i := range 200 {
		fmt.Fprintf(&want, "o%d\ne%d\n", i, i)
	}
	out, err := sh(c, `i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done`).CombinedOutput(within(t))
	if err != nil || string(out) != want.String() {
		t.Errorf("%v, %.100q", err, out)
	}
}

func TestWriterFails(t *testing.T) {
	c, _ := live(t)
	cause := errors.New("full")
	cmd := c.Command("yes")
	cmd.Stdout = errorWriter{cause}
	err := cmd.Run(within(t))
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if exit, ok := errors.AsType[*client.ExitError](err); !ok || exit.Signal != "PIPE" {
		t.Errorf("%v", err)
	}
}

type errorWriter struct{ err error }

func (w errorWriter) Write([]byte) (int, error) { return 0, w.err }

func TestPipeClosedEarly(t *testing.T) {
	c, _ := live(t)
	cmd := c.Command("yes")
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if exit, ok := errors.AsType[*client.ExitError](cmd.Wait()); !ok || exit.Signal != "PIPE" {
		t.Errorf("%v", cmd.ExitStatus)
	}
}

func TestContextKillsTheTree(t *testing.T) {
	c, _ := live(t)
	ctx, cancel := context.WithCancel(within(t))
	cmd := sh(c, `trap '' TERM; sleep 1000 & echo $! $$; wait; wait`)
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var child, shell int
	if _, err := fmt.Fscan(out, &child, &shell); err != nil {
		t.Fatal(err)
	}
	cancel()
	err := cmd.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if exit, ok := errors.AsType[*client.ExitError](err); !ok || exit.Signal != client.SIGKILL {
		t.Errorf("%v", err)
	}
	for _, pid := range []int{child, shell} {
		waitGone(t, pid)
	}
}

// waitGone waits until a process has ended; it may be a zombie for a while.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("process %d is alive", pid)
}

func TestContextDoneBeforeStart(t *testing.T) {
	c, _ := live(t)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	if err := c.Command("true").Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestCancelIsAsked(t *testing.T) {
	c, _ := live(t)
	ctx, cancel := context.WithCancel(within(t))
	cmd := sh(c, `trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done`)
	var out bytes.Buffer
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		cancel() // the trap is set
		return out.Write(p)
	})
	cmd.Cancel = func() error { return cmd.Signal(context.WithoutCancel(ctx), client.SIGTERM) }
	err := cmd.Run(ctx)
	exit, ok := errors.AsType[*client.ExitError](err)
	if !ok || exit.Code != 3 || !errors.Is(err, context.Canceled) || out.String() != "ready\nbye\n" {
		t.Errorf("%v, %q", err, &out)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTimeout(t *testing.T) {
	c, _ := live(t)
	cmd := c.Command("sleep", "1000")
	cmd.Timeout = 50 * time.Millisecond
	err := cmd.Run(within(t))
	if exit, ok := errors.AsType[*client.ExitError](err); !ok || !exit.TimedOut || exit.Signal != client.SIGTERM {
		t.Errorf("%#v", err)
	}
}

func TestOutputHeldByAChild(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	// The child lives until its stdin, which is ours, is closed.
	cmd := sh(c, `exec 3<&0; (read x <&3; echo late) & echo now`)
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if out.String() != "now\n" || !cmd.ExitStatus.OutputHeld {
		t.Errorf("%q, held %v", &out, cmd.ExitStatus.OutputHeld)
	}
	in.Close()
	if err := cmd.Process.Kill(ctx); err != nil && !errors.Is(err, client.ErrProcessEnded) {
		t.Error(err)
	}
}

func TestWaitDelay(t *testing.T) {
	c, _ := live(t)
	cmd := sh(c, `(sleep 0.5; echo late) & echo now`)
	cmd.WaitDelay = time.Minute
	out, err := cmd.Output(within(t))
	if err != nil || string(out) != "now\nlate\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTerminal(t *testing.T) {
	if ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		t.Skip("this user gets no terminals: ", err)
	} else {
		ptmx.Close()
	}
	c, _ := live(t)
	ctx := within(t)
	cmd := sh(c, `tty >/dev/null && stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done`)
	cmd.Terminal = &client.Terminal{Size: client.TerminalSize{Rows: 33, Columns: 77}}
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var rows, columns int
	var ready string
	if _, err := fmt.Fscan(out, &rows, &columns, &ready); err != nil || rows != 33 || columns != 77 || ready != "ready" {
		t.Fatalf("%d %d %q, %v", rows, columns, ready, err)
	}
	if err := cmd.Resize(ctx, client.TerminalSize{Rows: 44, Columns: 55}); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(out, &rows, &columns); err != nil || rows != 44 || columns != 55 {
		t.Errorf("%d %d, %v", rows, columns, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMisuse(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	cmd := c.Command("true")
	if err := cmd.Wait(); err == nil {
		t.Error("Wait before Start")
	}
	if err := cmd.Signal(ctx, client.SIGTERM); err == nil {
		t.Error("Signal before Start")
	}
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(ctx); err == nil {
		t.Error("second Start")
	}
	if _, err := cmd.StdoutPipe(); err == nil {
		t.Error("StdoutPipe after Start")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("second Wait")
	}
}
