//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// systemReason classifies an error of the operating system by its errno; what
// has none is INTERNAL.
func systemReason(err error) (codes.Code, reason) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return sentinelReason(err)
	}
	var r reason
	switch errno {
	case unix.ENOENT:
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	case unix.EEXIST:
		r = guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	case unix.EACCES, unix.EPERM:
		r = guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	case unix.ENOTDIR, unix.EISDIR:
		r = guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE
	case unix.ENOTEMPTY:
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		r = guestdv1.ErrorReason_ERROR_REASON_NO_SPACE
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EUSERS:
		r = guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED
	case unix.ENOSYS, unix.EOPNOTSUPP:
		r = guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED
	case unix.ENAMETOOLONG:
		r = guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	case unix.EINVAL:
		return codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	case unix.EROFS, unix.ELOOP, unix.EXDEV, unix.EBUSY, unix.ETXTBSY, unix.EMLINK,
		unix.ENOEXEC, unix.ESPIPE, unix.EPIPE, unix.ENXIO, unix.ENODEV, unix.ENODATA, unix.ESTALE,
		unix.ECONNREFUSED, unix.ECONNRESET, unix.ECONNABORTED, unix.ENOTCONN, unix.EHOSTUNREACH, unix.EHOSTDOWN,
		unix.ENETUNREACH, unix.ENETDOWN, unix.ETIMEDOUT, unix.EADDRINUSE, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT,
		unix.EPROTOTYPE, unix.EMSGSIZE:
		return codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	default:
		return codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	}
	return reasonCode(r), r
}

// sentinelReason classifies the sentinel errors of io/fs that came without an
// errno.
func sentinelReason(err error) (codes.Code, reason) {
	r := guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	case errors.Is(err, fs.ErrExist):
		r = guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	case errors.Is(err, fs.ErrPermission):
		r = guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	case errors.Is(err, fs.ErrInvalid):
		r = guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	case errors.Is(err, errors.ErrUnsupported):
		r = guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED
	}
	return reasonCode(r), r
}

// systemMeta collects path, op and errno from an error's chain; never nil.
func systemMeta(err error) map[string]string {
	meta := make(map[string]string, 4)
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	var callErr *os.SyscallError
	switch {
	case errors.As(err, &pathErr):
		meta["path"], meta["op"] = pathErr.Path, pathErr.Op
	case errors.As(err, &linkErr):
		// The new name: the caller can tell from op and errno which of
		// the two it was, and the message names both.
		meta["path"], meta["op"] = linkErr.New, linkErr.Op
	case errors.As(err, &callErr):
		meta["op"] = callErr.Syscall
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		meta["errno"] = errnoSymbol(errno)
	}
	return meta
}

// errnoSymbol is an error number's symbol; "errno N" for one that x/sys does
// not know.
func errnoSymbol(errno syscall.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}
