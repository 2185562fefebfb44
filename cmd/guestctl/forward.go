package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/accept"
)

// forwardFlags are the options of forward.
type forwardFlags struct {
	user    string
	reverse []string
	json    bool
}

const forwardLong = `Carry connections between this machine and the guest, until interrupted. No
network between the two is needed.

SPEC is LISTEN:TARGET. This machine listens, and each connection is passed on to
TARGET from inside the guest; with -R it is the other way round. Each of the two is

  PORT          a port of the loopback address; LISTEN may be 0, to have the
                system choose one
  HOST:PORT     a port of that address or name; an IPv6 address is in brackets
  /PATH         a unix socket; @NAME is one of the abstract namespace

and a single PORT is the same on both sides. "/udp" after the target makes it UDP.
Where it listens, and what goes wrong with a connection, is reported on stderr.
When the agent is restarted, forwarding goes on.`

func newForward(a *app) *cobra.Command {
	var f forwardFlags
	cmd := &cobra.Command{
		Use:   "forward [flags] [SPEC...]",
		Short: "Carry connections into the guest, or out of it",
		Long:  forwardLong,
		Example: `  guestctl forward 8080:3000                  # http://localhost:8080
  guestctl forward 3000 5432:db:5432          # db as the guest knows it
  guestctl forward 0.0.0.0:8080:3000          # for the whole network
  guestctl forward /tmp/docker.sock:/var/run/docker.sock
  guestctl forward 8053:53/udp
  guestctl forward -R 8080:localhost:8080     # the guest reaches this machine
  guestctl forward 0:3000 --json              # which port was it?`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args)+len(f.reverse) == 0 {
				return usagef("nothing to forward: give SPEC, for example 8080:3000")
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.forward(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completePort,
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.StringArrayVarP(&f.reverse, "reverse", "R", nil, "listen in the guest and connect from here, as `SPEC` says")
	jsonFlag(cmd, &f.json)
	return cmd
}

// jsonForward is a line of forward --json; jsonHelp documents it.
type jsonForward struct {
	Spec    string `json:"spec"`
	Reverse bool   `json:"reverse"`
	Network string `json:"network"`
	Listen  string `json:"listen"`
	Target  string `json:"target"`
}

func (a *app) forward(ctx context.Context, f *forwardFlags, args []string) error {
	var specs []forwardSpec
	for i, operands := range [][]string{args, f.reverse} {
		for _, text := range operands {
			spec, err := parseForward(text, i == 1)
			if err != nil {
				return err
			}
			specs = append(specs, spec)
		}
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := a.reach(ctx, c); err != nil {
		return err
	}
	fw := newForwarding(a, c, f)
	defer fw.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before stop, which waits for what dials
	for i := range specs {
		if err := fw.start(ctx, &specs[i]); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-fw.failed:
		return err
	}
}

// reach returns an error if there is no agent.
func (a *app) reach(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	_, err := c.Info(ctx)
	return err
}

// forwarding is what one forward command has open.
type forwarding struct {
	app    *app
	client *client.Client
	flags  *forwardFlags
	failed chan error // capacity 1: what ends the command

	tasks sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	open    map[interface{ Close() error }]struct{}

	telling sync.Mutex // held while writing to stderr or stdout
}

func newForwarding(a *app, c *client.Client, f *forwardFlags) *forwarding {
	return &forwarding{app: a, client: c, flags: f, failed: make(chan error, 1), open: make(map[interface{ Close() error }]struct{})}
}

// stop closes everything and waits for what used it.
func (fw *forwarding) stop() {
	fw.mu.Lock()
	fw.stopped = true
	for c := range fw.open {
		reset(c)
	}
	fw.mu.Unlock()
	fw.tasks.Wait()
}

// keep makes stop close c. It is false, and c closed, if that has come.
func (fw *forwarding) keep(c interface{ Close() error }) bool {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	if fw.stopped {
		reset(c)
		return false
	}
	fw.open[c] = struct{}{}
	return true
}

func (fw *forwarding) drop(c interface{ Close() error }) {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	delete(fw.open, c)
}

// fail ends the command.
func (fw *forwarding) fail(err error) {
	select {
	case fw.failed <- err:
	default: // for another reason already
	}
}

// start begins to listen for one spec.
func (fw *forwarding) start(ctx context.Context, spec *forwardSpec) error {
	if spec.listen.network == "udp" {
		return fw.startUDP(ctx, spec)
	}
	l, err := fw.listen(ctx, spec)
	if err != nil {
		return err
	}
	if !fw.keep(l) {
		return context.Canceled
	}
	if err := fw.announce(spec, l.Addr()); err != nil {
		return err
	}
	fw.tasks.Go(func() { fw.serve(ctx, spec, l) })
	return nil
}

// listen listens on the side where connections begin.
func (fw *forwarding) listen(ctx context.Context, spec *forwardSpec) (net.Listener, error) {
	if spec.reverse {
		return fw.client.ListenWith(ctx, spec.listen.network, spec.listen.address, client.ListenOptions{User: fw.flags.user})
	}
	return listenLocal(ctx, spec.listen)
}

// dial connects on the other side.
func (fw *forwarding) dial(ctx context.Context, spec *forwardSpec) (net.Conn, error) {
	if spec.reverse {
		var d net.Dialer
		return d.DialContext(ctx, spec.target.network, spec.target.address)
	}
	return fw.client.DialAs(ctx, fw.flags.user, spec.target.network, spec.target.address)
}

// announce tells what listens where.
func (fw *forwarding) announce(spec *forwardSpec, at net.Addr) error {
	fw.telling.Lock()
	defer fw.telling.Unlock()
	if fw.flags.json {
		return fw.app.printJSONLine(jsonForward{spec.text, spec.reverse, spec.listen.network, at.String(), spec.target.address})
	}
	here := endpoint{spec.listen.network, at.String()}
	if spec.reverse {
		fw.app.warn("forwarding %s in the guest to %v here", escape(here.String()), spec.target)
	} else {
		fw.app.warn("forwarding %v here to %v in the guest", here, spec.target)
	}
	return nil
}

// complain tells what went wrong with a connection.
func (fw *forwarding) complain(err error) {
	fw.telling.Lock()
	defer fw.telling.Unlock()
	fw.app.complain(err)
}

// Between two attempts to accept where there are no descriptors, and to listen
// again.
const (
	acceptPause, acceptMost = 5 * time.Millisecond, time.Second
	relistenPause           = 500 * time.Millisecond
)

// serve carries the connections of a listener. One in the guest is gone with the
// agent's connection, and is opened again.
func (fw *forwarding) serve(ctx context.Context, spec *forwardSpec, l net.Listener) {
	for pause := acceptPause; l != nil; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			fw.tasks.Go(func() { fw.carry(ctx, spec, conn) })
			continue
		case accept.IsTemporary(err):
			// Those that are open go on, and give their descriptors back.
			if pause == acceptPause {
				fw.complain(fmt.Errorf("forward %s: %w", spec.text, err))
			}
			if !sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, acceptMost)
			continue
		}
		fw.drop(l)
		_ = l.Close()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if !spec.reverse || !errors.Is(err, client.ErrUnavailable) {
			fw.fail(err)
			return
		}
		fw.complain(err)
		l = fw.listenAgain(ctx, spec, l.Addr())
	}
}

// sleep is false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listenAgain listens where l did, once the agent is back. Nil is the end.
func (fw *forwarding) listenAgain(ctx context.Context, spec *forwardSpec, at net.Addr) net.Listener {
	again := *spec
	again.listen.address = at.String() // the port that was chosen
	for {
		l, err := fw.listen(ctx, &again)
		if err == nil {
			if !fw.keep(l) {
				return nil
			}
			if err := fw.announce(spec, l.Addr()); err != nil {
				fw.fail(err)
			}
			return l
		}
		if ctx.Err() != nil {
			return nil
		}
		// The port may be in use for as long as the agent has not noticed that
		// its connection is gone.
		if !errors.Is(err, client.ErrUnavailable) && !isInUse(err) {
			fw.fail(fmt.Errorf("forward %s: %w", spec.text, err))
			return nil
		}
		if !sleep(ctx, relistenPause) {
			return nil
		}
	}
}
