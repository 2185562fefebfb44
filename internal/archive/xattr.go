//go:build linux || darwin

package archive

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattrs bounds an entry's attributes so that the pax header stays within
// what any reader takes (maxMeta) with room for the names.
const maxXattrs = maxMeta / 2

const capabilityXattr = "security.capability"

// carriedXattr reports whether this package carries an attribute. Others
// belong to the system they were made on (security.selinux, trusted.*).
func carriedXattr(name string) bool {
	switch name {
	case capabilityXattr, "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.")
}

// xattrs reads the attributes of an open file or directory, sorted by name.
func (p *packer) xattrs(entry string, fd int) []xattr {
	if n, err := unix.Flistxattr(fd, nil); n == 0 && err == nil {
		return nil // as nearly every file, so it is asked without a buffer
	}
	names, err := readXattr(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil {
		if !errors.Is(err, unix.ENOTSUP) {
			p.sum.note(entry, ReasonXattr, err)
		}
		return nil
	}
	var attrs []xattr
	total := 0
	for name := range strings.SplitSeq(string(names), "\x00") {
		if !carriedXattr(name) {
			continue
		}
		value, err := readXattr(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if total += len(name) + len(value); err == nil && total > maxXattrs {
			err = unix.E2BIG
		}
		if err != nil {
			p.sum.note(entry, ReasonXattr, err)
			continue
		}
		attrs = append(attrs, xattr{name, string(value)})
	}
	slices.SortFunc(attrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return attrs
}

// readXattr calls get with a buffer that is large enough, also when what is
// read grows meanwhile.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := get(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) {
			return nil, err
		}
		if n, err = get(nil); err != nil {
			return nil, err
		}
		buf = make([]byte, max(n, 2*len(buf)))
	}
}

// setXattrs restores an entry's attributes on the open fd. What is refused gets
// a note; a full disk is an error.
func (u *unpacker) setXattrs(fd int, h *header, ownerKept bool) error {
	for _, x := range h.xattrs {
		if !carriedXattr(x.name) || (x.name == capabilityXattr && !ownerKept) {
			continue
		}
		err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return u.entryError("setxattr", err)
		}
		if err != nil {
			u.sum.note(h.name, ReasonXattr, err)
		}
	}
	return nil
}
