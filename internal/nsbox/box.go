//go:build linux

package nsbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrUnavailable is wrapped by Start's error where this machine does not let us
// make the namespaces.
var ErrUnavailable = errors.New("no namespaces for us on this machine")

// ErrEnded is wrapped by Start's error if guestd ended before it was ready.
var ErrEnded = errors.New("guestd ended")

const (
	pollInterval = 5 * time.Millisecond
	stopGrace    = 10 * time.Second
)

// Box is a running box. Its methods may be called from several goroutines.
type Box struct {
	dir    string
	ownDir bool
	ids    idMap
	muxer  *muxer
	output *output

	cmd  *exec.Cmd
	done chan struct{} // closed when PID 1 has ended, and with it every process
	err  error         // how; read after done

	cleanup sync.Once
}

// Start starts a box and returns when its agent accepts connections. ctx bounds
// that wait only. The caller must Stop or Kill the box; no process of it
// survives this one in any case.
func Start(ctx context.Context, cfg Config) (*Box, error) {
	cfg = cfg.withDefaults()
	b := &Box{dir: cfg.Dir, ids: chooseIDMap(), output: &output{}, done: make(chan struct{})}
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "guestd-box-")
		if err != nil {
			return nil, err
		}
		b.dir, b.ownDir = dir, true
	}
	if err := b.boot(ctx, cfg); err != nil {
		b.Kill()
		return nil, fmt.Errorf("start box: %w", err)
	}
	return b, nil
}

// boot starts the processes and waits for the agent. On error the caller kills
// what was started.
func (b *Box) boot(ctx context.Context, cfg Config) error {
	guestd, err := filepath.Abs(cfg.Guestd)
	if err != nil {
		return err
	}
	for _, dir := range []string{b.path("root"), b.path("ports")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if b.muxer, err = listenMuxer(b.path("box.sock"), b.path("ports"), cfg.Log); err != nil {
		return err
	}
	listen := "unix:" + portPath(portsPath, PortAgent)
	err = b.startChild(ctx, plan{
		Root:     b.path("root"),
		Ports:    b.path("ports"),
		Guestd:   guestd,
		Argv:     append([]string{"guestd", "serve", "--listen", listen}, cfg.Args...),
		Hostname: cfg.Hostname,
		Single:   b.ids.single(),
	})
	if err != nil {
		return err
	}
	return b.waitReady(ctx)
}

func (b *Box) path(name string) string { return filepath.Join(b.dir, name) }

// startChild starts PID 1 of the box and returns when it has become guestd.
func (b *Box) startChild(ctx context.Context, p plan) error {
	stdin, stdinWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdinWriter.Close()
	report, reportWriter, err := os.Pipe()
	if err != nil {
		stdin.Close()
		return err
	}
	defer report.Close()
	b.cmd = childCommand(b.ids)
	b.cmd.Stdin, b.cmd.ExtraFiles = stdin, []*os.File{reportWriter}
	b.cmd.Stdout, b.cmd.Stderr = b.output, b.output
	err = b.start()
	stdin.Close()
	reportWriter.Close()
	if err != nil {
		b.cmd = nil
		return err
	}
	if err := b.ids.applyTo(b.cmd.Process.Pid); err != nil {
		return err
	}
	// The child may die at any point; what it reports says more than EPIPE.
	_, _ = stdinWriter.Write([]byte{'\n'})
	_ = json.NewEncoder(stdinWriter).Encode(p)
	stdinWriter.Close()
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Now()) })
	defer stop()
	reason, err := io.ReadAll(report)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && len(reason) > 0:
		return fmt.Errorf("%w: %s", ErrUnavailable, reason)
	}
	return err
}

// childCommand is this program again, in new namespaces.
func childCommand(ids idMap) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{nameWaiting},
		Env:  []string{},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS |
				syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
			Setsid:    true, // a Ctrl-C is for us, and we stop the box
			Pdeathsig: syscall.SIGKILL,
		},
	}
	ids.apply(cmd.SysProcAttr)
	return cmd
}

// start starts b.cmd and waits for its end in the background.
func (b *Box) start() error {
	started := make(chan error, 1)
	go func() {
		defer close(b.done)
		// "Parent" in PDEATHSIG is the thread that forked, so it has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := b.cmd.Start()
		started <- err
		if err == nil {
			b.err = b.cmd.Wait()
		}
	}()
	err := <-started
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// waitReady returns when the agent accepts connections.
func (b *Box) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", portPath(b.path("ports"), PortAgent))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ticker.C:
		case <-b.done:
			return fmt.Errorf("%w (%v)\n%s", ErrEnded, b.cmd.ProcessState, b.output)
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", ctx.Err(), b.output)
		}
	}
}

// Addr returns the address of a port of the box, in the form that the package
// vsock dials. Ports other than PortAgent are unix sockets which a program in
// the box has made as /run/guestd/PORT.sock.
func (b *Box) Addr(port uint32) string {
	return fmt.Sprintf("hybrid:%s:%d", b.path("box.sock"), port)
}

// Description says for people what the box is.
func (b *Box) Description() string {
	who := "root"
	if os.Geteuid() != 0 {
		who = "an ordinary user"
	}
	ids := fmt.Sprintf("%d users", idRange)
	if b.ids.single() {
		ids = "one user"
	}
	return fmt.Sprintf("user, pid, mount and network namespaces, started by %s, with %s inside (no VM)", who, ids)
}

// Console returns the newest output of PID 1 and the agent, at least the last
// MiB of it. It stays readable after the end.
func (b *Box) Console() string { return b.output.String() }

// Pid returns the process id of the box's PID 1 on this machine.
func (b *Box) Pid() int { return b.cmd.Process.Pid }

// Stop asks PID 1 for the end, which asks every process, and kills what is left
// after 10 s or when ctx ends. It returns nil, also for a box that has ended.
func (b *Box) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	b.signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-ctx.Done():
	}
	b.Kill()
	return nil
}

// Kill ends the box at once. It may be called any number of times.
func (b *Box) Kill() {
	if b.cmd != nil {
		b.signal(syscall.SIGKILL)
		<-b.done
	}
	b.release()
}

// signal has no effect on a box that has ended.
func (b *Box) signal(sig syscall.Signal) {
	select {
	case <-b.done:
	default:
		_ = b.cmd.Process.Signal(sig)
	}
}

// release removes what a box that has ended leaves.
func (b *Box) release() {
	b.cleanup.Do(func() {
		if b.muxer != nil {
			b.muxer.close()
		}
		os.RemoveAll(b.path("ports"))
		os.Remove(b.path("root")) // a mere mount point: never recursively
		if b.ownDir {
			os.Remove(b.dir)
		}
	})
}

// outputLimit is how much of the newest output is kept.
const outputLimit = 1 << 20

// output collects what the box's PID 1 and agent print.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if len(o.text) > 2*outputLimit {
		o.text = append([]byte(nil), o.text[len(o.text)-outputLimit:]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimRight(string(o.text), "\n")
}
