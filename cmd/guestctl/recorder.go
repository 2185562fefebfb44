package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/guestd/guestd/client"
)

// recorder writes what terminals show into files, one for each.
type recorder struct {
	first string // the first terminal's file
	count int
	files map[terminalKey]string
}

// terminalKey names a terminal among all.
type terminalKey struct{ session, channel string }

// newRecorder records into files that are not there yet, in a directory that is:
// it is better to say so before there is anything to lose.
func newRecorder(first string) (*recorder, error) {
	if first != "" {
		if _, err := os.Lstat(first); err == nil {
			return nil, fmt.Errorf("record: %w", &fs.PathError{Op: "create", Path: first, Err: fs.ErrExist})
		}
		if _, err := os.Stat(filepath.Dir(first)); err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
	}
	return &recorder{first: first, files: make(map[terminalKey]string)}, nil
}

// closed forgets a session, which has shown its last.
func (r *recorder) closed(session string) {
	maps.DeleteFunc(r.files, func(key terminalKey, _ string) bool { return key.session == session })
}

// write adds an event to its terminal's file. A file is open only meanwhile:
// there may be any number of terminals, and what they showed is to be there
// also after a crash.
func (r *recorder) write(e *client.SSHEvent) (err error) {
	if e.Terminal == nil || len(e.Terminal.Cast) == 0 {
		return nil
	}
	key := terminalKey{e.Session, e.Channel}
	flag := os.O_WRONLY | os.O_APPEND
	path, known := r.files[key]
	if !known {
		r.count++
		path = r.name(r.count)
		flag |= os.O_CREATE | os.O_EXCL
	}
	// Not for everybody: whatever the terminal showed is in it.
	file, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r.files[key] = path
	_, err = file.Write(e.Terminal.Cast)
	return err
}

// name is the file of the nth terminal.
func (r *recorder) name(n int) string {
	if n == 1 {
		return r.first
	}
	extension := filepath.Ext(r.first)
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(r.first, extension), n, extension)
}
