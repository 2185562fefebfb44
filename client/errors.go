package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Errors for errors.Is. Besides these, errors are [fs.ErrNotExist],
// [fs.ErrExist], [fs.ErrPermission], [errors.ErrUnsupported],
// [context.Canceled] and [context.DeadlineExceeded] wherever those fit, and the
// syscall.Errno that the guest reported (translated to this machine's number).
var (
	ErrUnavailable     = errors.New("agent unavailable")          // no connection, or it broke
	ErrInvalidRequest  = errors.New("invalid request")            // a malformed argument
	ErrUnknownUser     = errors.New("unknown user")               // or group
	ErrUnknownHost     = errors.New("unknown host")               // in the guest; a *net.DNSError
	ErrProcessNotFound = errors.New("no such process")            // or no longer kept
	ErrProcessEnded    = errors.New("process has ended")          // or its input is closed
	ErrStaleHandle     = errors.New("stale handle")               // of an earlier boot or connection
	ErrChecksum        = errors.New("checksum mismatch")          // the old file is untouched
	ErrNoSpace         = errors.New("no space left in the guest") // disk, quota or file size; see Error.Written
	ErrUnsafeEntry     = errors.New("unsafe archive entry")       // would leave its destination
	ErrWrongType       = errors.New("wrong type of file")         // a directory for a file, a FIFO, …
	ErrNotEmpty        = errors.New("directory not empty")
	ErrLimit           = errors.New("limit reached")                  // of the agent or the machine
	ErrWaitTimeout     = errors.New("no condition came true in time") // of a Wait
	ErrLocked          = errors.New("locked by somebody else")        // a file
	ErrShuttingDown    = errors.New("agent is shutting down")         // it accepts nothing new
	ErrResume          = errors.New("partial upload does not fit")    // or is gone
	ErrOutputLost      = errors.New("output was lost before reading") // see GapError
	ErrProtocol        = errors.New("agent broke the protocol")       // a bug in it, or an attack
)

// Error is a call that the agent refused or that failed in the guest.
type Error struct {
	Op      string               // what failed, for example "open"
	Path    string               // the guest's path or the process's id; may be empty
	Reason  guestdv1.ErrorReason // machine-readable cause; unspecified if the agent gave none
	Code    codes.Code           // gRPC's status
	Errno   syscall.Errno        // the guest's error number as this machine has it; 0 without one
	Symbol  string               // its name in Linux, for example "ENOSPC"
	Stage   string               // where a start failed: lookup, user, cwd, cgroup, rlimit, io, pty, exec
	Written int64                // bytes on disk before the failure
	Want    string               // what a failed check wanted
	Got     string               // what it found
	Message string               // the agent's sentence; not to be matched
}

// Error returns the agent's sentence, or one made of the fields if it sent none.
func (e *Error) Error() string {
	if e.Message != "" {
		return e.Message
	}
	text := e.Code.String()
	switch {
	case e.Errno != 0:
		text = e.Errno.Error()
	case e.Symbol != "":
		text = e.Symbol
	case e.Reason != 0:
		text = strings.ToLower(strings.TrimPrefix(e.Reason.String(), reasonPrefix))
	}
	return joinError(e.Op, e.Path, text)
}

// Unwrap returns Errno, so that errors.Is(err, syscall.ENOSPC) holds.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Is reports whether e is one of the package's or the standard library's
// sentinel errors.
func (e *Error) Is(target error) bool {
	switch {
	case target == ErrUnavailable && e.Code == codes.Unavailable,
		target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded:
		return true // whatever the reason says
	}
	if s := sentinel(e.Reason); s != nil {
		return s == target
	}
	return e.Errno == 0 && codeSentinel(e.Code) == target
}

// sentinel maps the reasons that mean one thing; the others speak by their
// errno.
func sentinel(r guestdv1.ErrorReason) error {
	switch r {
	case guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST:
		return ErrInvalidRequest
	case guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND:
		return fs.ErrNotExist
	case guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS:
		return fs.ErrExist
	case guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:
		return fs.ErrPermission
	case guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER:
		return ErrUnknownUser
	case guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_HOST:
		return ErrUnknownHost
	case guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND:
		return ErrProcessNotFound
	case guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE:
		return ErrStaleHandle
	case guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED:
		return ErrProcessEnded
	case guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH:
		return ErrChecksum
	case guestdv1.ErrorReason_ERROR_REASON_NO_SPACE:
		return ErrNoSpace
	case guestdv1.ErrorReason_ERROR_REASON_UNSAFE_ENTRY:
		return ErrUnsafeEntry
	case guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE:
		return ErrWrongType
	case guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY:
		return ErrNotEmpty
	case guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED:
		return errors.ErrUnsupported
	case guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED:
		return ErrLimit
	case guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT:
		return ErrWaitTimeout
	case guestdv1.ErrorReason_ERROR_REASON_LOCKED:
		return ErrLocked
	case guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN:
		return ErrShuttingDown
	case guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH:
		return ErrResume
	}
	return nil
}

// codeSentinel is for agents newer than this client, whose reason it does not
// know, and for gRPC's own errors.
func codeSentinel(code codes.Code) error {
	switch code {
	case codes.InvalidArgument:
		return ErrInvalidRequest
	case codes.NotFound:
		return fs.ErrNotExist
	case codes.AlreadyExists:
		return fs.ErrExist
	case codes.PermissionDenied:
		return fs.ErrPermission
	case codes.Unimplemented:
		return errors.ErrUnsupported
	case codes.ResourceExhausted:
		return ErrLimit
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	}
	return nil
}

// ConnectionError is a call that found no agent, or lost it. It is
// [ErrUnavailable] and whatever Err is.
type ConnectionError struct {
	Agent string // Config.Name
	Lost  bool   // there was a connection, and it broke under the call
	Err   error  // what the dial function or the connection said
}

func (e *ConnectionError) Error() string {
	text := e.Err.Error()
	// What dialing functions put before the errno repeats the address.
	if errno, ok := errors.AsType[syscall.Errno](e.Err); ok {
		text = errno.Error()
	}
	if e.Lost {
		return "agent at " + e.Agent + ": connection lost: " + text
	}
	return "agent at " + e.Agent + ": " + text
}

func (e *ConnectionError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// GapError is output that had left the agent's ring before this client could
// read it: nobody was attached for too long. It is [ErrOutputLost].
type GapError struct {
	Process string // id
	Gap     Gap
}

func (e *GapError) Error() string {
	return fmt.Sprintf("process %s: %d bytes of %s lost from offset %d on",
		printable(e.Process), e.Gap.Bytes, e.Gap.Stream, e.Gap.Offset)
}

// Is holds for [ErrOutputLost].
func (e *GapError) Is(target error) bool { return target == ErrOutputLost }

const (
	errorDomain  = "guestd"
	reasonPrefix = "ERROR_REASON_"
)

// mapError is the only way from a gRPC status back to an error of Go; op and
// path say what was tried where the agent does not. Nil and errors that are no
// status pass through.
func (c *Client) mapError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if info := errorInfo(st); info != nil {
		return newError(op, path, st, info)
	}
	switch {
	case c.isClosed():
		return fmt.Errorf("%s: %w", joinError(op, path, "client is closed"), net.ErrClosed)
	case st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded:
		return c.contextError(op, path, codeSentinel(st.Code()))
	case st.Code() == codes.Unavailable:
		return c.connectionError(st)
	}
	return &Error{Op: op, Path: path, Code: st.Code(), Message: joinError(op, path, printable(st.Message()))}
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// contextError says that the call's context ended it, and, if no connection had
// been made until then, why.
func (c *Client) contextError(op, path string, cause error) error {
	if err := c.dial.lastError(); err != nil {
		return fmt.Errorf("%w (%w)", &ConnectionError{Agent: c.dial.name, Err: err}, cause)
	}
	if what := joinError(op, path, ""); what != "" {
		return fmt.Errorf("%s%w", what, cause)
	}
	return cause
}

func (c *Client) connectionError(st *status.Status) error {
	if err := c.dial.lastError(); err != nil {
		return &ConnectionError{Agent: c.dial.name, Err: err}
	}
	return &ConnectionError{Agent: c.dial.name, Lost: true, Err: errors.New(printable(st.Message()))}
}

// isConnectionLost reports whether err, as gRPC gave it, is the transport's and
// not the agent's word.
func isConnectionLost(err error) bool {
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.Unavailable && errorInfo(st) == nil
}

// errorInfo is the agent's detail of a status; nil if the status is not the
// agent's.
func errorInfo(st *status.Status) *errdetails.ErrorInfo {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info
		}
	}
	return nil
}

func newError(op, path string, st *status.Status, info *errdetails.ErrorInfo) error {
	meta := info.GetMetadata()
	e := &Error{
		Op:      op,
		Path:    path,
		Reason:  guestdv1.ErrorReason(guestdv1.ErrorReason_value[reasonPrefix+info.GetReason()]),
		Code:    st.Code(),
		Errno:   errnoOf(meta["errno"]),
		Symbol:  printable(meta["errno"]),
		Stage:   printable(meta["stage"]),
		Want:    printable(meta["want"]),
		Got:     printable(meta["got"]),
		Message: printable(st.Message()),
	}
	if v := meta["op"]; v != "" {
		e.Op = printable(v)
	}
	if v := meta["path"]; v != "" {
		e.Path = printable(v)
	}
	// What is not a number counts as absent.
	e.Written, _ = strconv.ParseInt(meta["written"], 10, 64)
	if e.Reason == guestdv1.ErrorReason_ERROR_REASON_START_FAILED || e.Stage != "" {
		return &StartError{Stage: e.Stage, Err: e}
	}
	return e
}

// StartError is a process that could not be started. The cause is in Err:
// errors.Is(err, fs.ErrNotExist) holds for a program that does not exist.
type StartError struct {
	Stage string // lookup, user, cwd, cgroup, rlimit, io, pty or exec
	Err   *Error
}

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// Is holds for [exec.ErrNotFound] if the program is in no directory of PATH.
func (e *StartError) Is(target error) bool {
	return target == exec.ErrNotFound && e.Stage == "lookup" && e.Err.Errno == syscall.ENOENT
}

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// joinError returns "op path: text" without the parts that are empty.
func joinError(op, path, text string) string {
	if path != "" {
		op = strings.TrimSpace(op + " " + printable(path))
	}
	if op == "" {
		return text
	}
	return op + ": " + text
}

// writtenOf returns how many bytes a failed write wrote.
func writtenOf(err error) int {
	st, _ := status.FromError(err)
	if info := errorInfo(st); info != nil {
		n, _ := strconv.ParseUint(info.GetMetadata()["written"], 10, 31)
		return int(n)
	}
	return 0
}
