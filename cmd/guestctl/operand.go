package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// side is where an operand of cp lies.
type side int

const (
	localSide side = iota
	guestSide
	stdStream // stdin or stdout
)

// operand is a source or the destination of cp.
type operand struct {
	text string // as it was given
	side side
	path string // without the colon
}

func parseOperand(text string) operand {
	if text == "-" {
		return operand{text: text, side: stdStream}
	}
	if path, guest := strings.CutPrefix(text, ":"); guest {
		if path == "" {
			path = "."
		}
		return operand{text: text, side: guestSide, path: path}
	}
	return operand{text: text, side: localSide, path: text}
}

// String is the operand as it would be given.
func (o operand) String() string {
	if o.side == guestSide {
		return ":" + o.path
	}
	return o.path
}

// contents reports whether a source means what is in a directory.
func (o operand) contents() bool {
	return o.side != stdStream && (strings.HasSuffix(o.path, "/") || baseName(o.path) == "")
}

// join puts a name into the directory that o is.
func (o operand) join(name string) string {
	if o.side == guestSide {
		return joinGuest(o.path, name)
	}
	return filepath.Join(o.path, name)
}

// parent is the directory that o lies in; "" if the path names none.
func (o operand) parent() string {
	path := strings.TrimRight(o.path, "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[:i+1]
}

// checkOperands finds what is wrong with the operands without a look at either
// side.
func checkOperands(sources []operand, to operand, f *cpFlags) error {
	guest := to.side == guestSide
	for _, from := range sources {
		guest = guest || from.side == guestSide
		switch {
		case from.path == "" && from.side == localSide, to.path == "" && to.side == localSide:
			return usagef("an empty path")
		case from.side != guestSide && to.side != guestSide:
			return usagef("%s and %s are both on this machine; a path of the guest begins with a colon, :/path", from.text, to.text)
		case len(sources) > 1 && (from.side == stdStream || to.side == stdStream):
			return usagef("- is for one source")
		case from.side == stdStream && strings.HasSuffix(to.path, "/"):
			return usagef("stdin has no name to be copied into a directory under: name the file")
		case from.side == guestSide && to.side == guestSide && (len(f.exclude) > 0 || f.owners != "user"):
			return usagef("--exclude and --owners are not for copies within the guest")
		}
	}
	if len(sources) > 1 && f.noTarget {
		return usagef("-T is for one source")
	}
	return nil
}

// isInto decides whether copies go into the destination, a directory, rather
// than being it; and makes the directory if that was asked for by a slash.
func (c *copying) isInto(ctx context.Context, sources []operand, to operand) (bool, error) {
	if c.flags.noTarget || to.side == stdStream {
		return false, nil
	}
	wanted := strings.HasSuffix(to.path, "/") || baseName(to.path) == ""
	there, err := c.isDirectory(ctx, to)
	switch {
	case err != nil:
		return false, err
	case there:
		return true, nil
	case len(sources) > 1 && !wanted:
		return false, usagef("%s is not a directory; several sources need one, and one that ends in / is made", to.text)
	case !wanted:
		return false, nil
	case to.side == guestSide:
		return true, c.files.MkdirAll(ctx, to.path, 0o755)
	default:
		return true, os.MkdirAll(to.path, 0o777)
	}
}

func (c *copying) isDirectory(ctx context.Context, o operand) (bool, error) {
	var info fs.FileInfo
	var err error
	if o.side == guestSide {
		info, err = c.files.Stat(ctx, o.path)
	} else {
		info, err = os.Stat(o.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// makeParents makes the missing parents of a path of this machine, as the agent
// does on its side; not for a source that is not there.
func (c *copying) makeParents(ctx context.Context, from, to operand) error {
	parent := filepath.Dir(filepath.Clean(to.path))
	if _, err := os.Stat(parent); err == nil {
		return nil
	}
	if _, err := c.files.Stat(ctx, from.path); err != nil {
		return err
	}
	return os.MkdirAll(parent, 0o777)
}
