//go:build linux

package fsops

import (
	"errors"
	"path"
	"strings"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// Resolve returns the absolute path that p means in f: a leading "~" or
// "~user" is replaced by the home directory, and a relative path is put after
// the base. Nothing else changes: "..", symbolic links and a trailing slash
// are left to the kernel, since only it knows what they lead to.
//
// An empty path is ENOENT, as for the kernel; a NUL byte is EINVAL; a "~user"
// that is not known is ENOENT, and errors.Is with passwd.ErrUnknownUser holds.
func (f *FS) Resolve(p string) (string, error) {
	abs, err := f.resolve(p)
	return abs, pathError("resolve", p, err)
}

func (f *FS) resolve(p string) (string, error) {
	switch {
	case p == "":
		return "", unix.ENOENT
	case strings.IndexByte(p, 0) >= 0:
		return "", unix.EINVAL
	case p[0] == '/':
		return p, nil
	case p[0] == '~':
		return f.expandTilde(p)
	}
	return joinPath(f.base, p), nil
}

func (f *FS) expandTilde(p string) (string, error) {
	name, rest, _ := strings.Cut(p[1:], "/")
	home := f.id.Home
	// A colon would make "~user:group" of it; that names no home.
	if strings.Contains(name, ":") {
		return "", &unknownUserError{passwd.ErrUnknownUser}
	}
	if name != "" {
		id, err := f.sys.cfg.LookupUser(name)
		if errors.Is(err, passwd.ErrUnknownUser) {
			return "", &unknownUserError{err}
		}
		if err != nil {
			return "", err
		}
		home = id.Home
	}
	home = path.Join("/", home)
	if strings.IndexByte(p, '/') < 0 {
		return home, nil
	}
	return joinPath(home, rest), nil
}

// unknownUserError is ENOENT for whoever asks for an errno.
type unknownUserError struct{ err error }

func (e *unknownUserError) Error() string   { return e.err.Error() }
func (e *unknownUserError) Unwrap() []error { return []error{e.err, unix.ENOENT} }

// joinPath puts rel after dir. It does not clean: path.Join would drop "..",
// which the kernel must see.
func joinPath(dir, rel string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + rel
	}
	return dir + "/" + rel
}

// splitLast cuts a path before its last element and ignores trailing slashes.
// dir ends with a slash or is empty; base is empty for the root only.
func splitLast(p string) (dir, base string) {
	trimmed := strings.TrimRight(p, "/")
	if trimmed == "" {
		return p, ""
	}
	i := strings.LastIndexByte(trimmed, '/')
	return trimmed[:i+1], trimmed[i+1:]
}
