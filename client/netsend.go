package client

import (
	"net"
	"syscall"

	"github.com/guestd/guestd/internal/wire"
)

const (
	// sendLimit is what may wait to be sent; Write waits beyond it.
	sendLimit = 512 << 10
	// maxDatagram is the most that a UDP datagram carries.
	maxDatagram = 65507
	// smallSend is room for many small writes, which are sent together.
	smallSend = 4 << 10
)

// netSender holds what was written until it is sent.
type netSender struct {
	netQueue
	datagram bool
	pool     *wire.Pool
	items    []*[]byte // of the pool
	eof      bool      // CloseWrite was called
}

// sendStep is what is to be sent next.
type sendStep int

const (
	sendData sendStep = iota
	sendEOF
	sendClose
	sendNothing // nothing more goes through
)

// write is net.Conn's Write; the caller wraps its errors.
func (s *netSender) write(b []byte) (n int, err error) {
	if s.datagram && len(b) > maxDatagram {
		return 0, syscall.EMSGSIZE
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.local:
			return n, net.ErrClosed
		case s.expired:
			return n, errTimeout
		case s.ended && s.err != nil:
			return n, s.err
		case s.ended, s.eof:
			return n, syscall.EPIPE
		case s.datagram && s.size < sendLimit:
			s.add(b)
			return len(b), nil
		case n == len(b):
			return n, nil
		case s.size < sendLimit:
			n += s.append(b[n:])
		default:
			s.changed.Wait()
		}
	}
}

// append adds the beginning of b and returns how much that is.
func (s *netSender) append(b []byte) int {
	b = b[:min(len(b), sendLimit-s.size)]
	if len(s.items) > 0 {
		// What has not been sent yet may grow.
		last := s.items[len(s.items)-1]
		if room := min(cap(*last), wire.ChunkSize) - len(*last); room > 0 {
			n := min(room, len(b))
			*last = append(*last, b[:n]...)
			s.size += n
			s.changed.Broadcast()
			return n
		}
	}
	n := min(len(b), wire.ChunkSize)
	s.add(b[:n])
	return n
}

// add adds b as an item of its own.
func (s *netSender) add(b []byte) {
	item := s.pool.Get(max(len(b), smallSend))
	*item = append((*item)[:0], b...)
	s.items = append(s.items, item)
	s.size += max(1, len(b))
	s.changed.Broadcast()
}

// next waits for what is to be sent next. The item is the caller's, who calls
// sent when it has been sent.
func (s *netSender) next() (sendStep, *[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return sendNothing, nil
		case len(s.items) > 0:
			item := s.items[0]
			s.items[0] = nil
			s.items = s.items[1:]
			return sendData, item
		case s.local:
			return sendClose, nil
		case s.eof:
			return sendEOF, nil
		}
		s.changed.Wait()
	}
}

// sent makes room for n more bytes.
func (s *netSender) sent(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size -= max(1, n)
	s.changed.Broadcast()
}

// afterEOF waits, once the eof is sent, for the close or the end.
func (s *netSender) afterEOF() sendStep {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && !s.local {
		s.changed.Wait()
	}
	if s.ended {
		return sendNothing
	}
	return sendClose
}

// closeWrite says that nothing more is written.
func (s *netSender) closeWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local {
		return net.ErrClosed
	}
	s.eof = true
	s.changed.Broadcast()
	return nil
}

// drop frees what will not be sent.
func (s *netSender) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range s.items {
		s.pool.Put(item)
	}
	s.items = nil
}
