package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"
)

// recovery is one effort to get over a broken connection: how often was tried,
// and until when to go on.
type recovery struct {
	client   *Client
	deadline time.Time
	attempts int
}

// recover begins an effort that ends after Config.ReattachTimeout.
func (c *Client) recover() recovery {
	return recovery{client: c, deadline: time.Now().Add(c.reattachTimeout)}
}

// next returns true when it is time for another attempt: there is a connection
// again. It returns false when time or ctx is over.
func (r *recovery) next(ctx context.Context) bool {
	ctx, cancel := context.WithDeadline(ctx, r.deadline)
	defer cancel()
	if !pause(ctx, r.attempts) {
		return false
	}
	r.attempts++
	conn := r.client.conn
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return ctx.Err() == nil
		case connectivity.Shutdown:
			return false
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// pause keeps attempts apart when connections are made but break at once; where
// none can be made gRPC waits by itself. It returns false when ctx is over.
func pause(ctx context.Context, attempts int) bool {
	if attempts == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(min(time.Second, time.Millisecond<<min(attempts, 10)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connected reports whether there is a connection, or one that was dialed and
// is about to be ready.
func (c *Client) connected() bool {
	switch c.conn.GetState() {
	case connectivity.Ready:
		return true
	case connectivity.Connecting:
		return c.dial.connections() > 0 && c.dial.lastError() == nil
	}
	return false
}

// reach is whether the agent could be reached, as it was before a call.
type reach struct {
	client      *Client
	connections int
	connected   bool
}

// reach looks at it now.
func (c *Client) reach() reach {
	// In this order: a connection that is made between the two is one more.
	connections := c.dial.connections()
	return reach{client: c, connections: connections, connected: c.connected()}
}

// reached reports whether there was a connection then, or one was made since.
func (r reach) reached() bool {
	return r.connected || r.client.dial.connections() != r.connections
}

// retry makes a call that may be made twice, and makes it again when the
// connection breaks under it. An agent that cannot be reached in the first
// place is an error at once.
func retry[R any](ctx context.Context, c *Client, call func(...grpc.CallOption) (R, error)) (R, error) {
	before := c.reach()
	on := new(peer.Peer) // of the call's connection; gRPC's state may lag behind it
	response, err := call(grpc.Peer(on))
	// Not by whether the last dial failed: that may be another call's, which
	// lost the same connection and was quicker.
	if !isConnectionLost(err) || on.Addr == nil && !before.reached() {
		return response, err
	}
	r := c.recover()
	for isConnectionLost(err) && r.next(ctx) {
		response, err = call()
	}
	return response, err
}
