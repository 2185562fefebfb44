//go:build linux

// Package fsops performs file operations with a chosen user's rights.
//
// A process has one [System]; an [FS] is the view that one user has of the
// files: what it creates belongs to that user, and what that user may not do
// it may not do either, whatever rights the process has. Both servers of the
// agent, gRPC and SSH, use it.
//
//	sys, err := fsops.New(fsops.Config{})
//	user, err := sys.AsUser("ann", "")         // relative paths: ann's home
//	info, err := user.Stat(ctx, "~/notes.txt")
//
// # Which call for what
//
//   - one file's attributes: [FS.Stat], [FS.Lstat], [FS.SetAttr]
//   - a directory: [FS.ReadDir] streams it, [FS.OpenDir] pages it, [FS.Walk]
//     and [FS.Glob] go down
//   - reading from beginning to end or following a log: [FS.OpenRead]
//   - replacing a file so that nobody ever sees half of it: [FS.NewWriter]
//   - random access, locks: [FS.Open]
//   - changes: [FS.Watch]
//   - whole trees as tar streams: [FS.Upload], [FS.Download]
//
// # Names, paths, modes
//
// Names are bytes in Go strings; they need not be UTF-8 and are never changed.
// A path is absolute, or relative to the FS's base, or begins with "~" or
// "~user"; a file whose name begins with a tilde is reached as "./~name".
// Paths are resolved by the kernel, so "a/../b" follows a symbolic link a.
//
// Permission bits are uint32 values as chmod(2) has them, with 04000, 02000
// and 01000 for setuid, setgid and sticky. Modes that a caller gives are set
// exactly, by fchmod(2); the process's umask, which all its threads share, is
// neither used nor changed.
//
// # Kernel
//
// Linux 5.6 for any other user than the process's own (openat2), 5.8 for
// [FS.Access] (faccessat2). Nothing else needs more, and only a followed link's
// mode on kernels before 6.6 needs /proc.
//
// # Errors
//
// A failed operation on a path returns a *[fs.PathError] (or *[os.LinkError]
// where there are two) that holds the path as the caller wrote it and wraps the
// errno, so errors.Is with fs.ErrNotExist, fs.ErrPermission or syscall.ENOSPC
// holds. What no errno says has a sentinel or a type of this package.
package fsops

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"time"

	"github.com/guestd/guestd/internal/passwd"
)

// Defaults of [Config].
const (
	DefaultMaxSorted     = 100_000
	DefaultPartialMaxAge = 24 * time.Hour
)

// Config configures a [System]. The zero value is ready to use.
type Config struct {
	// Logger receives what no caller can be told: a thread whose rights could
	// not be restored, a stale partial file that could not be removed. Nil
	// discards.
	Logger *slog.Logger

	// LookupUser resolves a user for [System.AsUser] and "~user"; nil is
	// [passwd.Lookup] behind a [passwd.Cache].
	LookupUser func(spec string) (passwd.Identity, error)

	// MaxSorted bounds the entries that a sorted listing holds in memory; a
	// larger directory gives [ErrTooMany]. Zero is [DefaultMaxSorted].
	MaxSorted int

	// PartialMaxAge is the age at which a partial file that was kept for
	// resuming is removed, counted from its last write. Zero is
	// [DefaultPartialMaxAge].
	PartialMaxAge time.Duration
}

// System holds what all the views share: the rights which the process began
// with, and the partial files left for resuming. Its methods are safe for
// concurrent use.
type System struct {
	cfg      Config
	log      *slog.Logger
	own      ownCreds
	partials partialList
}

// New returns a System for the rights which the calling process has now. It
// fails when these cannot be read.
func New(cfg Config) (*System, error) {
	own, err := readOwnCreds()
	if err != nil {
		return nil, fmt.Errorf("read own credentials: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.LookupUser == nil {
		cfg.LookupUser = new(passwd.Cache).Lookup
	}
	if cfg.MaxSorted == 0 {
		cfg.MaxSorted = DefaultMaxSorted
	}
	if cfg.PartialMaxAge == 0 {
		cfg.PartialMaxAge = DefaultPartialMaxAge
	}
	return &System{cfg: cfg, log: cfg.Logger, own: own}, nil
}

// FS is one user's view of the files. It holds no descriptor and needs no
// Close; make one for each request or keep it. Its methods are safe for
// concurrent use.
type FS struct {
	sys   *System
	id    passwd.Identity
	base  string // absolute
	creds *creds // nil where the process's own rights are the user's
}

// As returns the view of the user id. Relative paths are resolved against
// base: "" is the home directory, and base itself may be relative to it or
// begin with a tilde; base need not exist.
//
// A process that may not change its rights can only be its own user: any other
// identity gives an *[IdentityError], for which fs.ErrPermission holds.
func (s *System) As(id passwd.Identity, base string) (*FS, error) {
	c, err := s.own.credsFor(id)
	if err != nil {
		return nil, err
	}
	f := &FS{sys: s, id: id, base: path.Join("/", id.Home), creds: c}
	if base != "" {
		if f.base, err = f.Resolve(base); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// AsUser is [System.As] for a user named as for [passwd.Lookup]; "" is the
// process's own user.
func (s *System) AsUser(spec, base string) (*FS, error) {
	if spec == "" {
		return s.Own(base)
	}
	id, err := s.cfg.LookupUser(spec)
	if err != nil {
		return nil, err
	}
	return s.As(id, base)
}

// Own returns the view of the process's own user, which costs no change of
// rights for any operation.
func (s *System) Own(base string) (*FS, error) {
	uid := strconv.FormatUint(uint64(s.own.uid), 10)
	id, err := s.cfg.LookupUser(uid)
	if err != nil {
		return nil, err
	}
	id.GID = s.own.gid
	return s.As(id, base)
}

// Identity returns the user whose rights f has.
func (f *FS) Identity() passwd.Identity { return f.id }

// Base returns the absolute path that relative ones are resolved against.
func (f *FS) Base() string { return f.base }

// Do calls fn on a thread that has the user's rights for files and no
// capability beyond them, and returns its error. It is how everything in this
// package touches a file, and open to others that make many system calls at
// once: entering and leaving cost about as much as ten lstat calls.
//
// fn must make its system calls itself, not in another goroutine, and use
// descriptor-relative or absolute paths, as the working directory and the
// umask belong to the whole process. Within fn, methods of the same FS may be
// called; those of another user's FS give an *[IdentityError], and those of the
// process's own have no more rights than fn. fn is not called when ctx has
// ended; to stop in the middle is its own business.
func (f *FS) Do(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.do(fn)
}
