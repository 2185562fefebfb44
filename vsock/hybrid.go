package vsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"
)

// ErrBadReply is wrapped by the error of a hybrid dial whose socket answered
// CONNECT with something other than "OK <number>\n": it is not a VMM's.
var ErrBadReply = errors.New("unexpected reply to CONNECT")

// maxReply bounds the reply. The longest good one is "OK 4294967295\n".
const maxReply = 32

func dialHybrid(ctx context.Context, a Addr) (net.Conn, error) {
	c, err := connectUnix(ctx, a.Path)
	if err != nil {
		return nil, err
	}
	if err := handshake(ctx, c, a.Port); err != nil {
		_ = c.Close() // the handshake's error is the one to tell
		return nil, err
	}
	return &hybridConn{newUnixConn(c, Addr{Transport: Hybrid}, a)}, nil
}

// handshake asks the VMM for a connection to the guest's port. It leaves c
// without a deadline, positioned behind the reply; after an error c is of no use.
func handshake(ctx context.Context, c net.Conn, port uint32) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := requestPort(c, port)
	if !stop() {
		<-interrupted // the goroutine is ours and ends before we do
		return ctx.Err()
	}
	return err
}

func requestPort(rw io.ReadWriter, port uint32) error {
	// One write: Firecracker reads the line once and drops a connection whose
	// line is not whole by then.
	if _, err := rw.Write(fmt.Appendf(nil, "CONNECT %d\n", port)); err != nil {
		return refusedIfClosed(err)
	}
	_, err := readReply(rw)
	return err
}

// readReply reads one line and no byte more: what follows is the guest's, who
// may speak first. The number is the port that the VMM gave the host's end.
func readReply(r io.Reader) (uint32, error) {
	var line [maxReply]byte
	for n := range line {
		_, err := io.ReadFull(r, line[n:n+1])
		switch {
		case err == nil && line[n] == '\n':
			return parseReply(line[:n])
		case err != nil && n == 0:
			return 0, refusedIfClosed(err)
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("%w: %q: %w", ErrBadReply, line[:n], io.ErrUnexpectedEOF)
		case err != nil:
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: %q…", ErrBadReply, line[:])
}

// parseReply reads the reply without its newline.
func parseReply(line []byte) (uint32, error) {
	number, ok := bytes.CutPrefix(line, []byte("OK "))
	port, err := strconv.ParseUint(string(number), 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%w: %q", ErrBadReply, line)
	}
	return uint32(port), nil
}

// refusedIfClosed translates the only way a multiplexer has to refuse: it
// closes the socket. That is an end of stream, or a reset or a broken pipe if
// it did not read our line.
func refusedIfClosed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w (closed without OK: nothing listens on this guest port, or the guest is not up)", syscall.ECONNREFUSED)
	}
	return err
}
