//go:build linux

// Package scp is the far half of the old scp protocol, that of rcp: what `scp
// -O` starts as "scp -f" or "scp -t" on the other machine. It is for guests
// that have no scp of their own.
//
// The protocol has no document. Each message is a line, or the bytes of a file
// and a zero byte; each is answered with a zero byte, or with \001 and a line
// for an error after which the next file is tried, or with \002 and a line for
// one that ends it all.
//
//	C0644 5 name        a file of 5 bytes, which follow
//	D0755 0 name        a directory: what follows is in it
//	E                   the end of that directory
//	T1700000000 0 1700000000 0  times of modification and access of the next C or D
package scp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/guestd/guestd/fsops"
)

// Options are those of scp's command line, and whose files they are about.
type Options struct {
	Files *fsops.FS // relative paths are taken from its base

	Recursive bool // -r: directories too
	Preserve  bool // -p: times, and modes without the umask
	TargetDir bool // -d: the target must be a directory

	// Umask takes bits from the modes of new files, and setuid, setgid and the
	// sticky bit are always taken, unless Preserve is set.
	Umask uint32
}

var (
	// ErrIncomplete says that something was not copied. The other side knows
	// why, and shows it to its user.
	ErrIncomplete = errors.New("not everything was copied")

	// ErrProtocol is wrapped by the error for a peer that does not follow the
	// protocol, or wants a file to be made elsewhere.
	ErrProtocol = errors.New("protocol error")
)

// errRefused: the peer does not want this file, and goes on.
var errRefused = errors.New("refused by the peer")

const (
	bufferSize = 256 << 10
	// maxLine bounds a message, with a name of at most 255 bytes in it.
	maxLine = 2048
)

// peer is the connection to the other half.
type peer struct {
	Options
	r      *bufio.Reader
	w      *bufio.Writer
	buf    []byte // for the content of files
	failed bool   // something was not copied
}

func newPeer(rw io.ReadWriter, opts Options) *peer {
	return &peer{
		Options: opts,
		r:       bufio.NewReader(rw),
		w:       bufio.NewWriter(rw),
		buf:     make([]byte, bufferSize),
	}
}

// outcome is what Sink and Source return.
func (p *peer) outcome(err error) error {
	if err == nil {
		err = p.w.Flush()
	}
	if err == nil && p.failed {
		return ErrIncomplete
	}
	return err
}

// acknowledge answers with success.
func (p *peer) acknowledge() error {
	if err := p.w.WriteByte(0); err != nil {
		return err
	}
	return p.w.Flush()
}

// report tells the peer why a file is not copied.
func (p *peer) report(text string) error {
	p.failed = true
	if _, err := fmt.Fprintf(p.w, "\x01scp: %s\n", escape(text)); err != nil {
		return err
	}
	return p.w.Flush()
}

// reportFile is report for what went wrong with a file.
func (p *peer) reportFile(path string, err error) error { return p.report(path + ": " + reason(err)) }

// protocolError tells the peer what it did wrong, and ends.
func (p *peer) protocolError(text string) error {
	return errors.Join(p.report("protocol error: "+text), fmt.Errorf("%w: %s", ErrProtocol, text))
}

// response flushes and waits for the peer's answer: nil, errRefused, or an
// error that ends it all.
func (p *peer) response() error {
	if err := p.w.Flush(); err != nil {
		return err
	}
	kind, err := p.r.ReadByte()
	switch {
	case err != nil:
		return endedEarly(err)
	case kind == 0:
		return nil
	}
	p.failed = true
	if _, err := p.line(); err != nil {
		return endedEarly(err)
	}
	if kind == 1 {
		return errRefused
	}
	return ErrIncomplete
}

// line reads up to a newline, which is not part of it.
func (p *peer) line() (string, error) {
	var line []byte
	for {
		c, err := p.r.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(line), nil
		}
		if line = append(line, c); len(line) > maxLine {
			return "", fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, maxLine)
		}
	}
}

// endedEarly makes the end of a stream in the midst of something an error.
func endedEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// path makes a path absolute, but leaves "" to be refused by the kernel. Unlike
// fsops it gives a tilde no meaning: the shell that started scp has done that.
func (p *peer) path(name string) string {
	switch {
	case name == "" || name[0] == '/':
		return name
	case strings.HasSuffix(p.Files.Base(), "/"):
		return p.Files.Base() + name
	}
	return p.Files.Base() + "/" + name
}

func (p *peer) isDir(ctx context.Context, path string) bool {
	info, err := p.Files.Stat(ctx, p.path(path))
	return err == nil && info.IsDir()
}

// reason is the text that OpenSSH's scp has for err.
func reason(err error) string {
	text := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text = errno.Error()
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// escape writes newlines, which would end a message, as OpenSSH does; and then
// backslashes too, so that nothing is lost.
func escape(name string) string {
	if !strings.Contains(name, "\n") {
		return name
	}
	var out bytes.Buffer
	for _, c := range []byte(name) {
		switch c {
		case '\n':
			out.WriteString(`\^J`)
		case '\\':
			out.WriteString(`\\`)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}
