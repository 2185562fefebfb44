//go:build linux

package fsops

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/guestd/guestd/internal/archive"
	"github.com/guestd/guestd/internal/passwd"
)

// TreeOwner says whom the files of an [FS.Upload] belong to.
type TreeOwner int

const (
	// TreeOwnerUser gives them to the FS's user. Set-user-ID and set-group-ID
	// bits of files, and file capabilities, are dropped.
	TreeOwnerUser TreeOwner = iota
	// TreeOwnerNumeric gives them the archive's user and group ids.
	TreeOwnerNumeric
	// TreeOwnerNames gives them the ids which the archive's user and group names
	// have here, or the archive's where a name is not known here.
	TreeOwnerNames
)

// UploadOptions says how [FS.Upload] unpacks. The zero value unpacks everything
// but extended attributes and special files, as the FS's user, and replaces
// files that exist.
type UploadOptions struct {
	// Owner other than TreeOwnerUser needs root's rights. Entries whose owner
	// cannot be set are unpacked as the user's, with a note in the summary.
	Owner TreeOwner
	// Overwrite is what happens to files that exist; see [archive.Overwrite].
	Overwrite archive.Overwrite
	// Exclude leaves out what matches; see [archive.PackOptions].
	Exclude []string
	// StripComponents removes leading elements from each name.
	StripComponents int
	// Xattrs sets extended attributes.
	Xattrs bool
	// Specials makes FIFOs and device nodes.
	Specials bool
	// Limits bounds what the archive may bring; the zero value does not.
	Limits archive.Limits
	// Progress, if not nil, is called as the archive comes in, on the thread
	// that has the user's rights. It must not block.
	Progress func(archive.Progress)
}

// Upload unpacks the tar archive read from r below the directory dest, which is
// made, with its parents, if it is missing, and reads r to its end.
// [archive.Unpack] tells what is promised: nothing outside dest is touched, no
// file is left half written, and the summary counts what was done, even with an
// error.
//
// An archive that tries to get out of dest gives an *[archive.UnsafeEntryError];
// one that is damaged an error for which errors.Is with [archive.ErrHeader]
// holds, one that is cut io.ErrUnexpectedEOF. A *fs.PathError holds the absolute
// path of the file in question, which the caller of a tree has not written.
//
// r is read on a thread with the user's rights for files. ctx ends the work
// between entries and between writes; r must end when ctx does.
func (f *FS) Upload(ctx context.Context, r io.Reader, dest string, opts UploadOptions) (archive.Summary, error) {
	unpack := archive.UnpackOptions{
		PreserveOwner:   opts.Owner != TreeOwnerUser,
		Overwrite:       opts.Overwrite,
		Exclude:         opts.Exclude,
		StripComponents: opts.StripComponents,
		Xattrs:          opts.Xattrs,
		Specials:        opts.Specials,
		Limits:          opts.Limits,
		Progress:        opts.Progress,
	}
	if opts.Owner == TreeOwnerNames {
		unpack.LookupUser, unpack.LookupGroup = f.sys.userID, f.sys.groupID
	}
	abs, err := f.Resolve(dest)
	if err != nil {
		return archive.Summary{}, err
	}
	var sum archive.Summary
	err = f.Do(ctx, func() error {
		sum, err = archive.Unpack(ctx, r, abs, unpack)
		return err
	})
	return sum, err
}

// DownloadOptions says what [FS.Download] packs. The zero value packs
// everything but extended attributes and special files.
type DownloadOptions struct {
	// ContentsOnly names the entries from the directory itself ("./a") rather
	// than with its name in front ("dir/a"). A link at the path is then
	// followed, as with a slash after the path.
	ContentsOnly bool
	// Exclude leaves out what matches; see [archive.PackOptions].
	Exclude []string
	// OneFileSystem does not enter other file systems.
	OneFileSystem bool
	// SkipUnreadable goes on, with a note in the summary, after what the user
	// may not read. Otherwise that ends the download.
	SkipUnreadable bool
	// Sort makes the same archive of the same tree.
	Sort bool
	// Xattrs carries extended attributes.
	Xattrs bool
	// Specials carries FIFOs and device nodes.
	Specials bool
	// Progress, if not nil, is called as the archive goes out, on the thread
	// that has the user's rights. It must not block.
	Progress func(archive.Progress)
}

// Download packs the file or the tree at src as a tar archive (POSIX pax) into
// w, in writes of 256 KiB. [archive.Pack] tells what is promised: links below
// src are never followed, files that vanish or change meanwhile get a note, and
// an archive that an error ended lacks its end marker.
//
// w is written to on a thread with the user's rights for files. ctx ends the
// work between entries and between writes; a blocked write must end when ctx
// does.
func (f *FS) Download(ctx context.Context, w io.Writer, src string, opts DownloadOptions) (archive.Summary, error) {
	pack := archive.PackOptions{
		Exclude:        opts.Exclude,
		OneFileSystem:  opts.OneFileSystem,
		UserName:       passwd.UserName,
		GroupName:      passwd.GroupName,
		Sort:           opts.Sort,
		Xattrs:         opts.Xattrs,
		Specials:       opts.Specials,
		SkipUnreadable: opts.SkipUnreadable,
		Progress:       opts.Progress,
	}
	abs, err := f.Resolve(src)
	if err != nil {
		return archive.Summary{}, err
	}
	if opts.ContentsOnly && !strings.HasSuffix(abs, "/") {
		abs += "/"
	}
	var sum archive.Summary
	err = f.Do(ctx, func() error {
		sum, err = archive.Pack(ctx, w, abs, pack)
		return err
	})
	return sum, err
}

// userID and groupID resolve an archive's names. A name of digits, or with a
// colon, would mean an id, or a user and a group, to the lookup.

func (s *System) userID(name string) (uint32, bool) {
	if !plainName(name) {
		return 0, false
	}
	id, err := s.cfg.LookupUser(name)
	return id.UID, err == nil
}

func (s *System) groupID(name string) (uint32, bool) {
	if !plainName(name) {
		return 0, false
	}
	id, err := s.cfg.LookupUser("0:" + name)
	return id.GID, err == nil
}

func plainName(name string) bool {
	_, err := strconv.ParseUint(name, 10, 64)
	return err != nil && !strings.Contains(name, ":")
}
