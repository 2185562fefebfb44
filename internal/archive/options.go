package archive

// PackOptions says what [Pack] leaves out and what it carries. The zero value
// packs every file, directory and link of the tree.
type PackOptions struct {
	// Exclude lists patterns of what is left out, in the manner of gitignore:
	//   - A pattern without a slash matches the last name element at any depth:
	//     "*.o", "node_modules".
	//   - One with a slash at its start or inside is matched against the whole
	//     path below the packed directory: "/build", "docs/*.pdf".
	//   - "**" matches any number of directories: "a/**/b", "**/tmp/*".
	//   - A slash at the end restricts it to directories: "cache/".
	//   - "!" at the start takes a match back; the last pattern that matches
	//     decides. What lies in an excluded directory stays excluded.
	//   - "*", "?", "[a-z]", "{a,b}" and "\" are as in
	//     github.com/bmatcuk/doublestar. Names are matched as bytes of UTF-8; a
	//     dot at the start is nothing special.
	// The packed directory itself, or a packed single file, is never excluded.
	Exclude []string

	// OneFileSystem leaves out what lies on another file system than the root.
	// A mount point's directory itself is carried, empty, with a note.
	OneFileSystem bool

	// UserName and GroupName name the owners in the archive besides the numbers,
	// which it always carries. They are called once for each id. Nil, or an
	// empty result, leaves the number alone.
	UserName, GroupName func(id uint32) string

	// Sort visits each directory in byte order of names, so that the same tree
	// gives the same stream. Otherwise the order is the file system's.
	Sort bool

	// Xattrs carries extended attributes of files and directories: user.*,
	// security.capability and the two POSIX ACLs. Those of symbolic links are
	// never carried.
	Xattrs bool

	// Specials carries FIFOs and device nodes. Otherwise each gets a note.
	Specials bool

	// SkipUnreadable goes on, with a note, after a file or directory that may
	// not be read. Otherwise it ends the Pack with the system's error.
	SkipUnreadable bool

	// Progress, if not nil, is called at each entry and after each read of
	// content, at most once for 256 KiB. It must not block.
	Progress func(Progress)
}

// UnpackOptions says how [Unpack] restores. With the zero value the files
// belong to whoever the thread acts for, have the archive's modes without
// set-id bits and its times, and replace files that exist.
type UnpackOptions struct {
	// PreserveOwner gives each entry the archive's owner and group. Where the
	// rights do not suffice the entry is kept, with a note, and loses its
	// set-user-ID and set-group-ID bits. Only with PreserveOwner are those bits
	// of files, and security.capability, restored at all: on a file that
	// changes hands they would give the new owner's rights away.
	PreserveOwner bool

	// LookupUser and LookupGroup map names that the archive has besides the ids;
	// where they know a name it wins over the number. They are called once for
	// each name, and only with PreserveOwner. Nil uses numbers only.
	LookupUser, LookupGroup func(name string) (id uint32, ok bool)

	// Owner, if not nil, gives everything that is created to this owner, and
	// PreserveOwner is ignored. Failing to do so is an error.
	Owner *Owner

	// Umask holds permission bits taken away from every mode. Zero restores
	// modes as they are in the archive; the process's umask has no effect but
	// on directories which the archive needs and does not describe.
	Umask uint32

	// Overwrite is what happens to files and links that exist.
	Overwrite Overwrite

	// Xattrs restores extended attributes: user.*, security.capability (see
	// PreserveOwner) and the two POSIX ACLs. Others are ignored. One that is
	// refused gets a note.
	Xattrs bool

	// Specials restores FIFOs and device nodes (Linux only). Otherwise each
	// gets a note.
	Specials bool

	// Exclude lists patterns of what is left out, as in PackOptions, matched
	// below the destination, that is, after StripComponents. A hard link to a
	// file that is left out is so too, with a note.
	Exclude []string

	// StripComponents removes this many leading elements from each name, and
	// from the targets of hard links. With 1 an archive of the directory "src"
	// restores as the destination itself.
	StripComponents int

	// Limits bounds what an archive may bring.
	Limits Limits

	// Progress, if not nil, is called at each entry and after each write of
	// content, at most once for 256 KiB. It must not block.
	Progress func(Progress)
}

// Owner is a numeric user and group.
type Owner struct {
	UID, GID uint32
}

// Limits bounds an Unpack; the zero value of each field means no bound.
type Limits struct {
	MaxEntries int64 // entries of any kind
	MaxBytes   int64 // content as stored in the archive, without holes
}

// Overwrite is what [Unpack] does about a file, link or special file that
// exists. Directories always merge: an existing one takes the archive's mode,
// owner and times (not with OverwriteKeep; with a note instead where it is
// somebody else's), and keeps what else is in it. A directory never replaces a file, nor a file a directory: that is an error.
type Overwrite int

const (
	// OverwriteReplace replaces it at once and whole: the new file is complete
	// under a temporary name before it takes the old one's place, so a stream
	// that is cut, or a full disk, leaves the old file as it was. A link is
	// replaced itself, never what it points to.
	OverwriteReplace Overwrite = iota
	// OverwriteKeep keeps what exists, with a note.
	OverwriteKeep
	// OverwriteFail ends the Unpack with an error that wraps fs.ErrExist.
	OverwriteFail
)
