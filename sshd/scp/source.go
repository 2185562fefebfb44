//go:build linux

package scp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// Source sends paths: it is `scp -f`. A file that cannot be sent is reported to
// the peer, and the next one is tried; [ErrIncomplete] says so in the end.
// Symbolic links are followed.
func Source(ctx context.Context, rw io.ReadWriter, opts Options, paths []string) error {
	p := newPeer(rw, opts)
	err := p.response()
	for _, name := range paths {
		if err != nil {
			break
		}
		err = p.send(ctx, name)
	}
	return p.outcome(err)
}

// send sends a file or a tree. Its error ends it all.
func (p *peer) send(ctx context.Context, name string) error {
	for len(name) > 1 && strings.HasSuffix(name, "/") {
		name = name[:len(name)-1]
	}
	info, err := p.Files.Stat(ctx, p.path(name))
	switch {
	case err != nil:
		return p.reportFile(name, err)
	case info.IsDir() && p.Recursive:
		err = p.sendDir(ctx, name, info)
	case !info.IsRegular():
		return p.report(name + ": not a regular file")
	default:
		err = p.sendFile(ctx, name)
	}
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

func (p *peer) sendFile(ctx context.Context, name string) error {
	file, err := p.Files.Open(ctx, p.path(name), fsops.OpenOptions{})
	if err != nil {
		return p.reportFile(name, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat(ctx)
	if err != nil {
		return p.reportFile(name, err)
	}
	if err := p.announce('C', name, info, info.Size); err != nil {
		return err
	}
	failure, err := p.sendContent(ctx, file, info.Size)
	if err != nil {
		return err
	}
	if failure != nil {
		err = p.reportFile(name, failure)
	} else {
		err = p.w.WriteByte(0)
	}
	if err != nil {
		return err
	}
	return p.response()
}

// announce sends the line about a file, with -p that about its times before it,
// and waits for consent.
func (p *peer) announce(kind byte, name string, info *fsops.FileInfo, size int64) error {
	if p.Preserve {
		// Times before 1970 cannot be said.
		fmt.Fprintf(p.w, "T%d 0 %d 0\n", max(0, info.Mtime.Unix()), max(0, info.Atime.Unix()))
		if err := p.response(); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.w, "%c%04o %d %s\n", kind, info.Perm(), size, escape(path.Base(name)))
	return p.response()
}

// sendContent sends size bytes, whatever becomes of the file meanwhile: failure
// says that some of them are none of its own.
func (p *peer) sendContent(ctx context.Context, file *fsops.Handle, size int64) (failure, err error) {
	for left := size; left > 0; {
		part := p.buf[:min(left, int64(len(p.buf)))]
		if failure == nil {
			n, readErr := io.ReadFull(readerFunc(func(b []byte) (int, error) { return file.Read(ctx, b) }), part)
			if readErr != nil {
				// What is missing has been announced, and is sent as zeros.
				failure = shrunk(readErr)
				clear(part[n:])
			}
		} else {
			clear(part)
		}
		if _, err := p.w.Write(part); err != nil {
			return failure, err
		}
		left -= int64(len(part))
	}
	return failure, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

var errShrunk = errors.New("file became shorter while it was sent")

func shrunk(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errShrunk
	}
	return err
}

// sendDir sends a directory with everything in it.
func (p *peer) sendDir(ctx context.Context, name string, info *fsops.FileInfo) error {
	dir, err := p.Files.OpenDir(ctx, p.path(name))
	if err != nil {
		return p.reportFile(name, err)
	}
	defer func() { _ = dir.Close() }()
	if err := p.announce('D', name, info, 0); err != nil {
		return err
	}
	for {
		entries, err := dir.Next(ctx, 256, false)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if err := p.reportFile(name, err); err != nil {
				return err
			}
			break
		}
		for _, entry := range entries {
			below := name + "/" + entry.Name
			if len(below) >= unix.PathMax {
				err = p.reportFile(name, unix.ENAMETOOLONG)
			} else {
				err = p.send(ctx, below)
			}
			if err != nil {
				return err
			}
		}
	}
	fmt.Fprint(p.w, "E\n")
	return p.response()
}
