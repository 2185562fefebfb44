//go:build linux

package fsops

// Signatures being filled in; every method here moves to its own file.

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

var errPending = errors.New("not written yet")

// Attrs are attributes to set; nil fields stay as they are.
type Attrs struct {
	Mode  *uint32 // permission bits 07777
	UID   *uint32
	GID   *uint32
	Size  *int64
	Atime *time.Time // nanoseconds
	Mtime *time.Time
}

// SetAttr sets several attributes at once, in the order size, owner, mode, times. With
// noFollow a symbolic link itself is meant (its owner and times; a mode gives EOPNOTSUPP).
func (f *FS) SetAttr(ctx context.Context, path string, attrs Attrs, noFollow bool) error {
	return errPending
}

// Chmod, Chown (nil keeps), Chtimes (nil keeps) and Truncate follow symbolic links; Lchown does not.
func (f *FS) Chmod(ctx context.Context, path string, mode uint32) error       { return errPending }
func (f *FS) Chown(ctx context.Context, path string, uid, gid *uint32) error  { return errPending }
func (f *FS) Lchown(ctx context.Context, path string, uid, gid *uint32) error { return errPending }
func (f *FS) Chtimes(ctx context.Context, path string, atime, mtime *time.Time, noFollow bool) error {
	return errPending
}
func (f *FS) Truncate(ctx context.Context, path string, size int64) error { return errPending }

// AccessMode is what to ask of Access.
type AccessMode uint32

const (
	AccessExists  AccessMode = 0
	AccessExecute AccessMode = 1
	AccessWrite   AccessMode = 2
	AccessRead    AccessMode = 4
)

// Access asks the kernel whether the user may do all of mode; nil says yes.
func (f *FS) Access(ctx context.Context, path string, mode AccessMode) error { return errPending }

// Extended attributes. noFollow means a symbolic link itself.
func (f *FS) GetXattr(ctx context.Context, path, name string, noFollow bool) ([]byte, error) {
	return nil, errPending
}
func (f *FS) SetXattr(ctx context.Context, path, name string, value []byte, flags XattrFlags, noFollow bool) error {
	return errPending
}
func (f *FS) ListXattr(ctx context.Context, path string, noFollow bool) ([]string, error) {
	return nil, errPending
}
func (f *FS) RemoveXattr(ctx context.Context, path, name string, noFollow bool) error {
	return errPending
}

type XattrFlags int

const (
	XattrEither  XattrFlags = 0
	XattrCreate  XattrFlags = 1 // fails with EEXIST when it is there
	XattrReplace XattrFlags = 2 // fails with ENODATA when it is not there
)

// DirEntry is one name in a directory.
type DirEntry struct {
	Name   string
	Type   uint32 // S_IFMT bits as in FileInfo.Mode; 0 where the file system does not say
	Ino    uint64
	Cookie int64     // position after this entry, for Dir.SeekCookie
	Info   *FileInfo // with ReadDirOptions.Stat
	Err    error     // why Info is missing
}

type ReadDirOptions struct {
	Stat   bool  // fill Info (lstat)
	Sorted bool  // by bytes of the name; bounded by Config.MaxSorted
	Cookie int64 // begin after the entry that had this cookie; 0 at the beginning
	Limit  int   // stop after so many entries; 0 all
}

// ReadDir calls fn with batches of entries, without "." and "..", in the file system's order.
// The batch and what it points to is reused after fn returns (strings stay valid).
// An error of fn ends the listing and is returned.
func (f *FS) ReadDir(ctx context.Context, path string, opts ReadDirOptions, fn func([]DirEntry) error) error {
	return errPending
}

// OpenDir opens a directory for reading page by page (SFTP's opendir).
func (f *FS) OpenDir(ctx context.Context, path string) (*Dir, error) { return nil, errPending }

type Dir struct{}

// Next returns up to limit entries, io.EOF after the last. Not for concurrent use.
func (d *Dir) Next(ctx context.Context, limit int, stat bool) ([]DirEntry, error) {
	return nil, errPending
}
func (d *Dir) SeekCookie(cookie int64) error                     { return errPending }
func (d *Dir) Stat(ctx context.Context) (*FileInfo, error) { return nil, errPending }
func (d *Dir) Path() string                                { return "" }
func (d *Dir) Close() error                                { return nil }

type WalkEntry struct {
	Path  string // relative to the root of the walk, "." for the root itself
	Depth int    // 0 for the root
	Entry DirEntry
	Err   error // a directory that could not be read; the walk goes on
}

type WalkOptions struct {
	MaxDepth      int      // 0 unlimited
	Exclude       []string // see NewMatcher
	Stat          bool
	OneFileSystem bool
}

// Walk calls fn with batches of entries below path; symbolic links are reported, never followed.
func (f *FS) Walk(ctx context.Context, path string, opts WalkOptions, fn func([]WalkEntry) error) error {
	return errPending
}

// Matcher matches relative paths against exclude patterns (doublestar; a pattern without a slash
// matches the last element anywhere, one with a slash is anchored at the root).
type Matcher struct{}

func NewMatcher(patterns []string) (*Matcher, error) { return nil, errPending }
func (m *Matcher) Match(rel string) bool             { return false }

// Glob calls fn with every existing path that pattern matches (*, ?, [], {a,b}, **).
// Paths are as the pattern was written: absolute stays absolute, relative relative.
func (f *FS) Glob(ctx context.Context, pattern string, fn func(path string) error) error {
	return errPending
}

type OpenOptions struct {
	Flags        int     // unix.O_RDONLY|O_WRONLY|O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_SYNC, O_DSYNC
	Perm         *uint32 // for a new file, exactly; nil 0644
	AllowSpecial bool    // FIFOs and devices too
}

// Open opens a file for random access. Handle methods are safe for concurrent use as os.File's are.
func (f *FS) Open(ctx context.Context, path string, opts OpenOptions) (*Handle, error) {
	return nil, errPending
}

type Handle struct{}

func (h *Handle) Path() string                                                  { return "" }
func (h *Handle) Read(ctx context.Context, p []byte) (int, error)               { return 0, errPending }
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error)  { return 0, errPending }
func (h *Handle) Write(ctx context.Context, p []byte) (int, error)              { return 0, errPending }
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) { return 0, errPending }
func (h *Handle) Seek(offset int64, whence int) (int64, error)                  { return 0, errPending }
func (h *Handle) Stat(ctx context.Context) (*FileInfo, error)                   { return nil, errPending }
func (h *Handle) Statfs(ctx context.Context) (*FSInfo, error)                   { return nil, errPending }
func (h *Handle) SetAttr(ctx context.Context, attrs Attrs) error                { return errPending }
func (h *Handle) Truncate(ctx context.Context, size int64) error                { return errPending }
func (h *Handle) Sync(ctx context.Context, dataOnly bool) error                 { return errPending }
func (h *Handle) Lock(ctx context.Context, opts LockOptions) error              { return errPending }
func (h *Handle) Close() error                                                  { return nil }

type LockKind int

const (
	LockShared LockKind = iota
	LockExclusive
	LockRelease
)

// LockOptions: byte range (Length 0 to the end of file, however long), Flock for flock(2) of the
// whole file instead of fcntl's open-file-description locks; Wait until ctx ends, else EAGAIN.
type LockOptions struct {
	Kind          LockKind
	Start, Length int64
	Flock         bool
	Wait          bool
}

type ReadOptions struct {
	Offset       int64 // bytes from the beginning; negative from the end (tail)
	Length       int64 // at most so many bytes; 0 to the end
	Follow       bool  // at the end wait for more (tail -f), until ctx ends or Close
	AllowSpecial bool
}

// OpenRead opens a file for reading one range. ctx bounds the whole reading: a Read that waits
// (FIFO, follow) returns when it ends.
func (f *FS) OpenRead(ctx context.Context, path string, opts ReadOptions) (*Reader, error) {
	return nil, errPending
}

// Reader reads one range of a file; use buffers of 256 KiB or more.
type Reader struct{}

func (r *Reader) Info() *FileInfo            { return nil } // as it was when opened
func (r *Reader) Offset() int64              { return 0 }   // of the next byte in the file
func (r *Reader) Read(p []byte) (int, error) { return 0, errPending }
func (r *Reader) Close() error               { return nil }

type Algorithm int

const (
	NoChecksum Algorithm = iota
	SHA256
	CRC32C // 4 bytes, big endian
)

func (a Algorithm) String() string { return "" }

type WriteMode int

const (
	WriteAtomic    WriteMode = iota // temporary file, renamed over the target by Commit
	WriteTruncate                   // create or truncate in place
	WriteAppend                     // create or append
	WriteExclusive                  // create; EEXIST when there (content appears by Commit's rename-noreplace)
	WriteInPlace                    // create or overwrite from Offset on, nothing truncated
)

type WriteOptions struct {
	Mode         WriteMode
	Perm         *uint32    // nil: the replaced file's, or 0644
	UID, GID     *uint32    // nil: the replaced file's where permitted, or the user's
	Mtime        *time.Time // nil: now
	Offset       int64      // WriteInPlace
	Size         int64      // -1 or 0: unknown; else Commit wants exactly this and space is reserved
	Checksum     Algorithm  // computed over the whole file
	Sum          []byte     // wanted; may also be given to Commit
	Sync         bool       // fsync of file and directory in Commit
	ResumeID     string     // WriteAtomic: a cut upload is kept and goes on at Writer.Offset
	MakeParents  bool       // as MkdirAll with 0755
	NoFollow     bool       // replace a symbolic link rather than what it points to
	AllowSpecial bool       // write into a FIFO or device (not atomic)
}

func (f *FS) NewWriter(ctx context.Context, path string, opts WriteOptions) (*Writer, error) {
	return nil, errPending
}

// Writer writes one file. Not for concurrent use, except Abort.
type Writer struct{}

func (w *Writer) Offset() int64                             { return 0 } // where the next byte goes; >0 at once when resumed
func (w *Writer) Write(p []byte) (int, error)               { return 0, errPending }
func (w *Writer) WriteBuffers(bufs [][]byte) (int64, error) { return 0, errPending } // does not keep or change bufs
func (w *Writer) Commit(ctx context.Context, sum []byte) (*WriteResult, error) {
	return nil, errPending
}
func (w *Writer) Abort() error { return nil } // no-op after Commit; keeps the partial with ResumeID

type WriteResult struct {
	Info *FileInfo
	Sum  []byte // with WriteOptions.Checksum
}

var _ io.WriteCloser = io.WriteCloser(nil)

// CleanPartials removes partial files in dir older than age (0: Config.PartialMaxAge).
func (f *FS) CleanPartials(ctx context.Context, dir string, age time.Duration) (int, error) {
	return 0, errPending
}

func (f *FS) Mkdir(ctx context.Context, path string, perm uint32) error    { return errPending }
func (f *FS) MkdirAll(ctx context.Context, path string, perm uint32) error { return errPending }

type RemoveOptions struct {
	Recursive     bool
	IgnoreMissing bool
	OneFileSystem bool
}

type RemoveResult struct{ Files, Dirs, Failed int64 }

// Remove removes a file or an empty directory, or a whole tree.
func (f *FS) Remove(ctx context.Context, path string, opts RemoveOptions) (RemoveResult, error) {
	return RemoveResult{}, errPending
}

type RenameMode int

const (
	RenameReplace RenameMode = iota
	RenameNoReplace
	RenameExchange
)

func (f *FS) Rename(ctx context.Context, from, to string, mode RenameMode) error { return errPending }
func (f *FS) Link(ctx context.Context, target, path string) error                { return errPending }
func (f *FS) Symlink(ctx context.Context, target, path string) error             { return errPending }
func (f *FS) Readlink(ctx context.Context, path string) (string, error)          { return "", errPending }

type RealpathMode int

const (
	RealpathExisting RealpathMode = iota // everything must exist
	RealpathParent                       // the last element may be missing
	RealpathMissing                      // anything may be missing
)

func (f *FS) Realpath(ctx context.Context, path string, mode RealpathMode) (string, error) {
	return "", errPending
}

// MkdirTemp and CreateTemp: dir "" is /tmp; pattern as in package os; modes 0700 and 0600.
func (f *FS) MkdirTemp(ctx context.Context, dir, pattern string) (string, error) {
	return "", errPending
}
func (f *FS) CreateTemp(ctx context.Context, dir, pattern string) (*Handle, error) {
	return nil, errPending
}

type CopyOptions struct {
	Recursive bool
	NoReplace bool // EEXIST rather than replacing a file
	NoFollow  bool // copy a symbolic link at from itself
	Owner     bool // keep owners too (root)
	Sync      bool
}

type CopyResult struct {
	Files, Dirs, Links, Bytes, Failed int64
}

func (f *FS) Copy(ctx context.Context, from, to string, opts CopyOptions) (CopyResult, error) {
	return CopyResult{}, errPending
}

type EventKind int

const (
	EventCreate EventKind = iota + 1
	EventModify
	EventAttrib
	EventRemove
	EventRename
	EventOverflow // events were lost: rescan
	EventGone     // the watched path itself was removed, moved or unmounted; nothing follows
	EventCloseWrite
)

type Event struct {
	Kind  EventKind
	Path  string // relative to the watched path; "." itself
	From  string // EventRename: the old path
	IsDir bool
}

type WatchOptions struct {
	Recursive bool
	Kinds     []EventKind // nil: all but EventAttrib and EventCloseWrite; overflow and gone always
	Exclude   []string
	Coalesce  time.Duration // gather so long after the first event; 0 none
}

// Watch begins before it returns: what happens afterwards is reported.
func (f *FS) Watch(ctx context.Context, path string, opts WatchOptions) (*Watcher, error) {
	return nil, errPending
}

type Watcher struct{}

// Next waits for events; io.EOF after EventGone.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) { return nil, errPending }
func (w *Watcher) Close() error                              { return nil }

var _ iter.Seq[int]

type partialList struct{}

func readlinkAt(dirfd int, name string) (string, error) { return "", errPending }
