package client

import (
	"io"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// feed copies Stdin to the command until either ends. It alone sends.
func (r *cmdRun) feed(stdin io.Reader) {
	defer close(r.fed)
	sender := bulkSender{call: r.stream.call, field: execStdinField, pool: &r.client.pool}
	for {
		b := sender.buffer()
		n, err := stdin.Read(*b)
		if sendErr := sender.send(b, n); sendErr != nil {
			return
		}
		if err == io.EOF {
			err = nil
		} else if err == nil {
			continue
		}
		r.endInput(err)
		return
	}
}

// endInput closes the command's input because Stdin is at its end, or failed.
func (r *cmdRun) endInput(err error) {
	select {
	case <-r.received: // closeInput has closed a StdinPipe
		return
	default:
	}
	r.mu.Lock()
	r.inputErr = err
	r.mu.Unlock()
	// If the stream is broken the receiving side says so.
	_ = r.stream.call.Send(&guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_StdinEof{StdinEof: &guestdv1.StdinEof{}}})
}

// closeInput lets writes to a StdinPipe fail, of which nobody reads any more.
func (r *cmdRun) closeInput() {
	if r.input != nil {
		_ = r.input.Close() // never fails
	}
}
