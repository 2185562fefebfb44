package client

import (
	"context"
	"errors"
	"net"
	"sync"
)

// dialer dials for gRPC and remembers how the last attempt failed: gRPC hands
// only its text to the calls that suffer from it.
type dialer struct {
	name string
	dial func(ctx context.Context) (net.Conn, error)

	mu   sync.Mutex
	err  error
	made int
}

// connect is gRPC's dial function; there is only one address.
func (d *dialer) connect(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := d.dial(ctx)
	if err == nil && conn == nil {
		err = errors.New("dial function returned no connection")
	}
	d.mu.Lock()
	d.err = err
	if err == nil {
		d.made++
	}
	d.mu.Unlock()
	return conn, err
}

// lastError is nil if the last attempt reached the agent, or none was made.
func (d *dialer) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// connections is how many attempts have reached the agent so far.
func (d *dialer) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}
