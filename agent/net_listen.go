//go:build linux

package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/guestd/guestd/internal/accept"
	"github.com/guestd/guestd/internal/guestnet"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const (
	// claimTime is how long a connection waits for a Forward call.
	claimTime = 30 * time.Second
	// maxWaiting bounds the connections of one listener that wait; more stay in
	// the kernel's queue.
	maxWaiting = 128
	// acceptPause is how long to leave a listener alone that lacks descriptors or
	// memory.
	acceptPause = 50 * time.Millisecond
)

// errNotWaiting says that a connection cannot be taken up.
var errNotWaiting error = &callError{
	reason: guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND,
	text:   "no such connection waits to be taken up",
}

// Listen listens in the guest and announces what comes.
func (s *netService) Listen(
	req *guestdv1.ListenRequest, stream grpc.ServerStreamingServer[guestdv1.ListenResponse],
) error {
	ctx := stream.Context()
	spec, err := s.listenSpec(req)
	if err != nil {
		return err
	}
	l, err := guestnet.Listen(ctx, spec)
	if err != nil {
		return err
	}
	defer release(l)
	stop := context.AfterFunc(ctx, func() { release(l) })
	defer stop()
	listening := &guestdv1.ListenListening{Address: addrText(l.Addr())}
	if err := stream.Send(&guestdv1.ListenResponse{Event: &guestdv1.ListenResponse_Listening{Listening: listening}}); err != nil {
		return err
	}
	queue := newWaitingQueue(&s.accepted)
	defer queue.close()
	for {
		conn, err := queue.accept(ctx, l)
		if err != nil {
			return err
		}
		announced := &guestdv1.ListenConnection{Id: queue.add(conn), PeerAddress: addrText(conn.RemoteAddr())}
		if err := stream.Send(&guestdv1.ListenResponse{Event: &guestdv1.ListenResponse_Connection{Connection: announced}}); err != nil {
			return err
		}
	}
}

func (s *netService) listenSpec(req *guestdv1.ListenRequest) (guestnet.ListenSpec, error) {
	spec := guestnet.ListenSpec{
		Network: req.GetNetwork(), Address: addressOf(req.GetAddress(), req.GetRawAddress()),
		Mode: fs.FileMode(req.GetMode()),
	}
	if req.GetMode()&^0o777 != 0 {
		return spec, invalidRequest("mode: %#o has more than permission bits", req.GetMode())
	}
	var err error
	if spec.User, err = s.user(req.GetUser()); err != nil {
		return spec, err
	}
	owner, err := s.user(req.GetOwner())
	if owner != nil {
		spec.Owner = &guestnet.Owner{UID: owner.UID, GID: owner.GID}
	}
	return spec, err
}

// waitingConns are the connections of all listeners that wait to be taken up.
// The zero value has none.
type waitingConns struct {
	mu    sync.Mutex
	conns map[string]*waitingConn
}

// waitingConn is one of them. Whoever takes it out of the map owns it.
type waitingConn struct {
	net.Conn
	queue *waitingQueue
	timer *time.Timer
}

// claim takes one out.
func (w *waitingConns) claim(id string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.conns[id]
	if c == nil {
		return nil, errNotWaiting
	}
	w.remove(id, c)
	return c.Conn, nil
}

// remove takes c out. w.mu is held.
func (w *waitingConns) remove(id string, c *waitingConn) {
	delete(w.conns, id)
	delete(c.queue.ids, id)
	c.timer.Stop()
	<-c.queue.room
}

// expire resets a connection that nobody took up.
func (w *waitingConns) expire(id string) {
	if conn, err := w.claim(id); err == nil {
		reset(conn)
	}
}

// waitingQueue is what one listener has waiting.
type waitingQueue struct {
	all  *waitingConns
	name string
	last int
	room chan struct{} // holds a token for each that waits
	ids  map[string]struct{}
}

func newWaitingQueue(all *waitingConns) *waitingQueue {
	return &waitingQueue{
		all: all, name: rand.Text(), room: make(chan struct{}, maxWaiting), ids: make(map[string]struct{}),
	}
}

// accept returns the next connection, once there is room for it to wait.
func (q *waitingQueue) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	select {
	case q.room <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for {
		conn, err := l.Accept()
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !accept.IsTemporary(err) {
			return nil, err
		}
		timer := time.NewTimer(acceptPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// add lets a connection wait, in the room that accept took, and returns its id.
func (q *waitingQueue) add(conn net.Conn) string {
	q.all.mu.Lock()
	defer q.all.mu.Unlock()
	q.last++
	id := fmt.Sprintf("%s-%d", q.name, q.last)
	if q.all.conns == nil {
		q.all.conns = make(map[string]*waitingConn)
	}
	all := q.all
	q.all.conns[id] = &waitingConn{
		Conn: conn, queue: q, timer: time.AfterFunc(claimTime, func() { all.expire(id) }),
	}
	q.ids[id] = struct{}{}
	return id
}

// close resets what waits.
func (q *waitingQueue) close() {
	q.all.mu.Lock()
	defer q.all.mu.Unlock()
	for id := range q.ids {
		c := q.all.conns[id]
		q.all.remove(id, c)
		reset(c.Conn)
	}
}
