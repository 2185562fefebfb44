//go:build linux || darwin

package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// place creates something named base in dir by calling create with the name to
// use, which must fail with EEXIST if that exists. It returns the name that was
// used: base; or a temporary one, for settle to move over what exists; or none
// if what exists is to be kept.
func (u *unpacker) place(dir int, base string, h *header, create func(name string) error) (string, error) {
	err := create(base)
	if err == nil {
		return base, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return "", u.entryError("create", err)
	}
	if keep, err := u.occupied(dir, base, h); keep || err != nil {
		return "", err
	}
	return u.placeTemp(h, create)
}

// occupied decides about a name that exists: true keeps it.
func (u *unpacker) occupied(dir int, base string, h *header) (bool, error) {
	switch u.opts.Overwrite {
	case OverwriteKeep:
		u.sum.note(h.name, ReasonExists, nil)
		return true, nil
	case OverwriteFail:
		return false, u.entryError("create", unix.EEXIST)
	}
	if st, err := statAt(dir, base); err == nil && st.typ() == unix.S_IFDIR {
		return false, u.entryError("create", unix.EISDIR)
	}
	return false, nil
}

// placeTemp calls create with a name that does not exist.
func (u *unpacker) placeTemp(h *header, create func(name string) error) (string, error) {
	for {
		name := fmt.Sprintf(".unpack-%016x", rand.Uint64())
		err := create(name)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", u.entryError("create", err)
		}
	}
}

// settle gives what is complete under name its place.
func (u *unpacker) settle(dir int, base, name string, h *header) error {
	if name == base {
		return nil
	}
	if err := unix.Renameat(dir, name, dir, base); err != nil {
		u.discard(dir, name)
		return u.entryError("rename", err)
	}
	if h.kind == kindHardlink {
		// rename(2) of one name of a file over another does nothing at all.
		u.discard(dir, name)
	}
	return nil
}

// discard removes what could not be completed under name. The error that led
// here is the one to report.
func (u *unpacker) discard(dir int, name string) {
	_ = unix.Unlinkat(dir, name, 0)
}
