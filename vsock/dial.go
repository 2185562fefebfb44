package vsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	mdvsock "github.com/mdlayher/vsock"
)

// DefaultDialTimeout bounds a dial, handshake included, where [Dialer.Timeout]
// is zero. The kernel and Firecracker give up on a silent guest after 2 s.
const DefaultDialTimeout = 10 * time.Second

// A Dialer holds the options of a dial. The zero Dialer is ready to use.
type Dialer struct {
	// Timeout bounds one dial. Zero means DefaultDialTimeout, negative leaves
	// the bound to the context alone.
	Timeout time.Duration
}

// Dial connects to a with the zero [Dialer].
func Dial(ctx context.Context, a Addr) (net.Conn, error) {
	return Dialer{}.Dial(ctx, a)
}

// Dial connects to a. The context bounds only the dial: it has no effect on
// the connection that is returned. The caller closes the connection.
//
// The error is a [*net.OpError]. [errors.Is] finds syscall.ECONNREFUSED when
// the machine is there and nothing listens on the port, on every transport;
// context.Canceled and context.DeadlineExceeded when ctx ended or the timeout
// passed; [ErrBadReply] when the socket of a hybrid address speaks something
// else; fs.ErrNotExist when there is no socket file.
func (d Dialer) Dial(ctx context.Context, a Addr) (net.Conn, error) {
	if err := a.validate(); err != nil {
		return nil, opError("dial", a, err)
	}
	switch {
	case d.Timeout == 0:
		d.Timeout = DefaultDialTimeout
		fallthrough
	case d.Timeout > 0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	c, err := dial(ctx, a)
	if err != nil {
		return nil, dialError(ctx, a, err)
	}
	return c, nil
}

func dial(ctx context.Context, a Addr) (net.Conn, error) {
	switch a.Transport {
	case VM:
		return dialVM(ctx, a)
	case Hybrid:
		return dialHybrid(ctx, a)
	default:
		c, err := connectUnix(ctx, a.Path)
		if err != nil {
			return nil, err
		}
		uc := newUnixConn(c, Addr{Transport: Unix}, a)
		return &uc, nil
	}
}

// dialError says that the context ended where that was the reason: below, the
// same shows as a deadline of the socket or as the net package's own errors.
func dialError(ctx context.Context, a Addr, err error) error {
	var timeout net.Error
	if ctxErr := ctx.Err(); ctxErr != nil && (errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.Canceled)) {
		err = ctxErr
	}
	return opError("dial", a, err)
}

func dialVM(ctx context.Context, a Addr) (net.Conn, error) {
	if err := vmSupported(); err != nil {
		return nil, err
	}
	if a.CID == CIDAny || a.Port == 0 {
		return nil, errors.New("address to listen on, not to dial: want vsock:CID:PORT")
	}
	c, err := mdvsock.DialContext(ctx, a.CID, a.Port, nil)
	if errors.Is(err, syscall.ECONNRESET) {
		// The virtio transports know one packet for "refused" and "reset".
		return nil, fmt.Errorf("%w (%w)", syscall.ECONNREFUSED, syscall.ECONNRESET)
	}
	if err != nil {
		return nil, err
	}
	return newVMConn(c), nil
}

// connectUnix connects to a socket file. On Linux a non-blocking connect does
// not wait while the listener's queue is full but fails with EAGAIN, and there
// is nothing to poll for; a burst of dials to one VMM meets that.
func connectUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	const longest = 50 * time.Millisecond
	var d net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// sleep waits for d and returns ctx's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
