//go:build linux

package sftp

import (
	"errors"
	"io"
	"syscall"
)

// code is the code of a STATUS packet, draft §7.
type code uint32

const (
	codeOK               code = 0
	codeEOF              code = 1
	codeNoSuchFile       code = 2
	codePermissionDenied code = 3
	codeFailure          code = 4
	codeBadMessage       code = 5
	codeOpUnsupported    code = 8
)

// String returns the text that OpenSSH sends along.
func (c code) String() string {
	switch c {
	case codeOK:
		return "Success"
	case codeEOF:
		return "End of file"
	case codeNoSuchFile:
		return "No such file"
	case codePermissionDenied:
		return "Permission denied"
	case codeBadMessage:
		return "Bad message"
	case codeOpUnsupported:
		return "Operation unsupported"
	}
	return "Failure"
}

// statusError is an error for which no errno stands.
type statusError struct {
	code code
	text string
}

func (e *statusError) Error() string { return e.text }

// Errors of this package's own, with the codes that OpenSSH gives them.
var (
	errBadMessage  = &statusError{codeBadMessage, "malformed packet"}
	errNotAllowed  = &statusError{codePermissionDenied, "request not permitted"}
	errUnsupported = &statusError{codeOpUnsupported, "unknown request"}
	errNoHandle    = &statusError{codeFailure, "no such handle"}
	errNoUser      = &statusError{codeFailure, "no such user"}
	errNoHome      = &statusError{codeNoSuchFile, "no such user"}
	errSameFile    = &statusError{codeFailure, "source and target are the same file"}
)

// status returns what to answer for err. FAILURE, behind which OpenSSH hides
// everything from a full disk to a file in the way, is explained.
func status(err error) (code, string) {
	if err == nil {
		return codeOK, codeOK.String()
	}
	if errors.Is(err, io.EOF) {
		return codeEOF, codeEOF.String()
	}
	c, why := codeFailure, ""
	var own *statusError
	var errno syscall.Errno
	switch {
	case errors.As(err, &own):
		c, why = own.code, own.text
	case errors.As(err, &errno):
		c, why = errnoCode(errno), errno.Error()
	}
	if c == codeFailure && why != "" || own == errNoHome {
		return c, c.String() + ": " + why
	}
	return c, c.String()
}

func errnoCode(errno syscall.Errno) code {
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EBADF, syscall.ELOOP:
		return codeNoSuchFile
	case syscall.EPERM, syscall.EACCES, syscall.EFAULT:
		return codePermissionDenied
	case syscall.ENAMETOOLONG, syscall.EINVAL:
		return codeBadMessage
	case syscall.ENOSYS:
		return codeOpUnsupported
	}
	return codeFailure
}
