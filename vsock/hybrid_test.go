package vsock

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestReadReply(t *testing.T) {
	for _, test := range []struct {
		in   string
		port uint32
		rest string
		err  error
	}{
		{in: "OK 1073741824\n", port: 1073741824},
		{in: "OK 1024\nSSH-2.0-guestd\r\n", port: 1024, rest: "SSH-2.0-guestd\r\n"},
		{in: "OK 4294967295\n\n", port: 4294967295, rest: "\n"},
		{in: "", err: syscall.ECONNREFUSED},
		{in: "OK 12", err: io.ErrUnexpectedEOF},
		{in: "\n", err: ErrBadReply},
		{in: "OK\n", err: ErrBadReply},
		{in: "OK \n", err: ErrBadReply},
		{in: "OK 4294967296\n", err: ErrBadReply},
		{in: "OK -1\n", err: ErrBadReply},
		{in: "ok 1\n", err: ErrBadReply},
		{in: "HTTP/1.1 400 Bad Request\r\n\r\n", err: ErrBadReply, rest: "\r\n"},
		{in: strings.Repeat("x", 100), err: ErrBadReply, rest: strings.Repeat("x", 100-maxReply)},
	} {
		r := strings.NewReader(test.in)
		port, err := readReply(r)
		rest, _ := io.ReadAll(r)
		if port != test.port || !errors.Is(err, test.err) || string(rest) != test.rest {
			t.Errorf("%q: %d, %v, rest %q; want %d, %v, %q", test.in, port, err, rest, test.port, test.err, test.rest)
		}
	}
}

// What the reader's error is, it stays, unless it is a multiplexer's refusal.
func TestReadReplyErrors(t *testing.T) {
	for in, want := range map[error]error{
		syscall.ECONNRESET: syscall.ECONNREFUSED,
		iotest.ErrTimeout:  iotest.ErrTimeout,
		syscall.EIO:        syscall.EIO,
	} {
		if _, err := readReply(iotest.ErrReader(in)); !errors.Is(err, want) {
			t.Errorf("%v became %v, want %v", in, err, want)
		}
	}
	late := io.MultiReader(strings.NewReader("OK 1"), iotest.ErrReader(syscall.ECONNRESET))
	if _, err := readReply(late); !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a reset within the reply became %v", err)
	}
}

func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"OK 1\n", "OK 4294967296\nx", "", "OK", "\n\n", strings.Repeat("1", 50)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		port, err := readReply(r)
		read := in[:len(in)-r.Len()]
		if len(read) > maxReply {
			t.Errorf("read %d bytes", len(read))
		}
		if i := bytes.IndexByte(read, '\n'); i >= 0 && i != len(read)-1 {
			t.Errorf("read %q, beyond the line", read)
		}
		if err == nil && (!bytes.HasPrefix(read, []byte("OK ")) || !bytes.HasSuffix(read, []byte("\n"))) {
			t.Errorf("took %q for OK %d", read, port)
		}
		if err != nil && port != 0 {
			t.Errorf("port %d with %v", port, err)
		}
	})
}
