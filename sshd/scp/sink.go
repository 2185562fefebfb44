//go:build linux

package scp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// Sink receives files: it is `scp -t`. A target that is a directory gets them
// by the names that the peer gives them; any other one is the file. Files are
// written in place, through symbolic links that are there. No name can lead out
// of the target.
//
// What cannot be written is reported to the peer, and the next file is taken;
// [ErrIncomplete] says so in the end.
func Sink(ctx context.Context, rw io.ReadWriter, opts Options, target string) error {
	p := newPeer(rw, opts)
	if opts.Preserve {
		p.Umask = 0
	} else {
		// A program of the peer's must not become one that runs as its owner
		// here, unless that was asked for.
		p.Umask |= unix.S_ISUID | unix.S_ISGID | unix.S_ISVTX
	}
	into := p.isDir(ctx, target)
	if opts.TargetDir && !into {
		_, err := p.Files.Stat(ctx, p.path(target))
		if err == nil {
			err = unix.ENOTDIR
		}
		return p.outcome(p.reportFile(target, err))
	}
	if err := p.acknowledge(); err != nil {
		return err
	}
	return p.outcome(p.receive(ctx, target, into, 0))
}

// record is a line about a file or a directory, with the times that came before
// it.
type record struct {
	kind         byte
	mode         uint32
	size         int64
	name         string
	atime, mtime *time.Time // nil without a T line
}

// receive takes what is sent until the end of the directory, or of the stream at
// depth 0.
func (p *peer) receive(ctx context.Context, target string, into bool, depth int) error {
	var times record
	for {
		line, err := p.message()
		switch {
		case errors.Is(err, io.EOF) && depth == 0:
			return nil
		case err != nil:
			return endedEarly(err)
		case line == "":
			continue // an error of the peer's
		case line == "E" && depth > 0:
			return p.acknowledge()
		}
		if line[0] == 'T' {
			if times, err = parseTimes(line); err != nil {
				return p.protocolError(err.Error())
			}
			if err := p.acknowledge(); err != nil {
				return err
			}
			continue
		}
		rec, err := parseRecord(line)
		if err != nil {
			return p.protocolError(err.Error())
		}
		rec.atime, rec.mtime = times.atime, times.mtime
		times = record{}
		path := target
		if into {
			path = join(target, rec.name)
		}
		if rec.kind == 'D' {
			err = p.receiveDir(ctx, path, rec, depth)
		} else {
			err = p.receiveFile(ctx, path, rec)
		}
		if err != nil {
			return err
		}
	}
}

// message reads the next line; "" stands for an error that the peer has shown to
// its user. io.EOF is the end between two lines.
func (p *peer) message() (string, error) {
	kind, err := p.r.ReadByte()
	if err != nil {
		return "", err
	}
	if kind == '\n' {
		return "", p.protocolError("unexpected <newline>")
	}
	rest, err := p.line()
	switch {
	case err != nil:
		return "", endedEarly(err)
	case kind == 1:
		p.failed = true
		return "", nil
	case kind == 2:
		return "", ErrIncomplete
	}
	return string(kind) + rest, nil
}

func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

// parseTimes takes "Tmtime 0 atime 0" apart; the zeros are microseconds.
func parseTimes(line string) (rec record, err error) {
	parts := strings.Split(line[1:], " ")
	if len(parts) != 4 {
		return rec, errors.New("times not delimited")
	}
	var n [4]int64
	for i, part := range parts {
		var ok bool
		if n[i], ok = parseNumber(part); !ok || i%2 == 1 && n[i] > 999_999 {
			return rec, errors.New("bad time")
		}
	}
	mtime, atime := time.Unix(n[0], n[1]*1000), time.Unix(n[2], n[3]*1000)
	return record{atime: &atime, mtime: &mtime}, nil
}

// parseNumber takes a number that has digits and no sign.
func parseNumber(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil
}

// parseRecord takes "Cmmmm size name" apart. A name that is more than one is
// refused: it would lead out of the target.
func parseRecord(line string) (rec record, err error) {
	if line[0] != 'C' && line[0] != 'D' {
		return rec, errors.New("expected control record")
	}
	mode, rest, ok := strings.Cut(line[1:], " ")
	size, name, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		return rec, errors.New("mode or size not delimited")
	}
	bits, err := strconv.ParseUint(mode, 8, 16)
	if err != nil || len(mode) != 4 {
		return rec, errors.New("bad mode")
	}
	rec = record{kind: line[0], mode: uint32(bits), name: name}
	if rec.size, ok = parseNumber(size); !ok {
		return rec, errors.New("bad size")
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return rec, fmt.Errorf("unexpected filename: %q", name)
	}
	return rec, nil
}

func (p *peer) receiveDir(ctx context.Context, path string, rec record, depth int) error {
	if !p.Recursive {
		return p.protocolError("received directory without -r")
	}
	mode := rec.mode &^ p.Umask
	info, err := p.Files.Stat(ctx, p.path(path))
	exists := err == nil
	switch {
	case exists && !info.IsDir():
		return p.reportFile(path, unix.ENOTDIR)
	case exists && p.Preserve:
		err = p.Files.Chmod(ctx, p.path(path), mode)
	case !exists:
		// Its owner has to be able to fill it.
		err = p.Files.Mkdir(ctx, p.path(path), mode|unix.S_IRWXU)
	}
	if err != nil {
		return p.reportFile(path, err)
	}
	if err := p.acknowledge(); err != nil {
		return err
	}
	if err := p.receive(ctx, path, true, depth+1); err != nil {
		return err
	}
	// The end of the directory is acknowledged: these cannot be told any more.
	if rec.mtime != nil {
		err = p.Files.Chtimes(ctx, p.path(path), rec.atime, rec.mtime, false)
	}
	if !exists && mode&unix.S_IRWXU != unix.S_IRWXU {
		err = errors.Join(err, p.Files.Chmod(ctx, p.path(path), mode))
	}
	p.failed = p.failed || err != nil
	return nil
}

func (p *peer) receiveFile(ctx context.Context, path string, rec record) error {
	mode := rec.mode &^ p.Umask
	info, err := p.Files.Stat(ctx, p.path(path))
	exists, regular := err == nil, err != nil || info.IsRegular()
	writable := mode | unix.S_IWUSR
	file, err := p.Files.Open(ctx, p.path(path), fsops.OpenOptions{
		Flags: unix.O_WRONLY | unix.O_CREAT, Perm: &writable, AllowSpecial: true,
	})
	if err != nil {
		return p.reportFile(path, err)
	}
	if err := p.acknowledge(); err != nil {
		return errors.Join(err, file.Close())
	}
	failure, err := p.receiveContent(ctx, file, rec.size)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	attrs := fsops.Attrs{Atime: rec.atime, Mtime: rec.mtime}
	if regular {
		attrs.Size = &rec.size
	}
	if exists && p.Preserve || !exists && mode != writable {
		attrs.Mode = &mode
	}
	if failure == nil {
		failure = file.SetAttr(ctx, attrs)
	}
	if err := file.Close(); failure == nil {
		failure = err
	}
	if err := p.response(); err != nil && !errors.Is(err, errRefused) {
		return err
	}
	if failure != nil {
		return p.reportFile(path, failure)
	}
	return p.acknowledge()
}

// receiveContent writes size bytes to the file. They are taken from the peer
// also when they cannot be written, which failure says.
func (p *peer) receiveContent(ctx context.Context, file *fsops.Handle, size int64) (failure, err error) {
	for left := size; left > 0; {
		part := p.buf[:min(left, int64(len(p.buf)))]
		n, err := io.ReadFull(p.r, part)
		if failure == nil && n > 0 {
			_, failure = file.Write(ctx, part[:n])
		}
		if err != nil {
			return failure, endedEarly(err)
		}
		left -= int64(n)
	}
	return failure, nil
}
