//go:build linux

package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/archive"
	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/passwd"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// errorDomain is the domain of every ErrorInfo that the agent sends.
const errorDomain = "guestd"

// maxErrorText bounds the message and each metadata value of an error. All of
// it travels in HTTP/2 trailers, and stock clients (grpcio) refuse more than
// 8 KiB of those: the caller would then see nothing of the cause.
const maxErrorText = 1024

// reason abbreviates the generated type in this package.
type reason = guestdv1.ErrorReason

// callError is an error that arises in this package, or one whose reason a
// handler knows better than its errno tells.
type callError struct {
	reason reason
	text   string            // for people; if empty, err's
	meta   map[string]string // see error.proto; may be nil
	err    error             // cause; may be nil
}

// Error returns the sentence for people.
func (e *callError) Error() string {
	switch {
	case e.err == nil:
		return e.text
	case e.text == "":
		return e.err.Error()
	}
	return e.text + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// errShuttingDown ends the calls that are still running when a shutdown's
// grace is over.
var errShuttingDown error = &callError{
	reason: guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
	text:   "the agent is shutting down",
}

// invalidRequest is an INVALID_REQUEST. The text names the field first, as the
// wire does: "spec.args: is empty".
func invalidRequest(format string, args ...any) error {
	return &callError{
		reason: guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		text:   fmt.Sprintf(format, args...),
	}
}

// panicError is what a recovered panic becomes. The interceptor logs the
// stack; the caller is told only that there was one.
type panicError struct {
	value any
	stack []byte
}

// Error tells that there was a panic.
func (e *panicError) Error() string { return fmt.Sprintf("internal error: panic: %v", e.value) }

// statusError turns the error of a handler into the error that gRPC sends. It
// returns nil for nil. An error that is a gRPC status already (of gRPC itself,
// for example of a message over the limit) is kept as it is.
func statusError(err error) error {
	if err == nil {
		return nil
	}
	if st, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return st.GRPCStatus().Err()
	}
	code, info := classify(err)
	st := status.New(code, printable(err.Error()))
	if info == nil {
		return st.Err()
	}
	for key, value := range info.Metadata {
		info.Metadata[key] = printable(value)
	}
	detailed, detailErr := st.WithDetails(info)
	if detailErr != nil {
		// Only a message that cannot be marshalled gets here, and every
		// string was made valid above.
		return st.Err()
	}
	return detailed.Err()
}

// classify finds the code and details of an error; nil details for errors
// whose code says all.
func classify(err error) (codes.Code, *errdetails.ErrorInfo) {
	var wire interface{ GRPCStatus() *status.Status }
	var call *callError
	var panicked *panicError
	var start *proc.StartError
	switch {
	case errors.As(err, &call):
		meta := systemMeta(err)
		maps.Copy(meta, call.meta)
		return reasonCode(call.reason), errorInfo(call.reason, meta)
	case errors.As(err, &panicked):
		return codes.Internal, errorInfo(guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil)
	case errors.As(err, &wire):
		return wire.GRPCStatus().Code(), nil
	case errors.Is(err, context.Canceled):
		return codes.Canceled, nil
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, nil
	case errors.As(err, &start):
		return classifyStart(start)
	}
	meta := systemMeta(err)
	r, ok := procReason(err)
	if !ok {
		r, ok = accessReason(err)
	}
	if !ok {
		r, ok = netReason(err)
	}
	if !ok {
		r, ok = filesReason(err, meta)
	}
	if ok {
		return reasonCode(r), errorInfo(r, meta)
	}
	code, r := systemReason(err)
	return code, errorInfo(r, meta)
}

// classifyStart classifies a process that could not be started.
func classifyStart(err *proc.StartError) (codes.Code, *errdetails.ErrorInfo) {
	meta := systemMeta(err)
	meta["stage"] = string(err.Stage)
	if err.Path != "" {
		meta["path"] = err.Path
	}
	code, r := systemReason(err)
	switch {
	case errors.Is(err, passwd.ErrUnknownUser), errors.Is(err, passwd.ErrUnknownGroup):
		r = guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER
	case errors.Is(err, proc.ErrNoPoll):
		r = guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED
	case r == guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED,
		r == guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED:
	case code == codes.NotFound, code == codes.PermissionDenied:
		return code, errorInfo(guestdv1.ErrorReason_ERROR_REASON_START_FAILED, meta)
	default:
		r = guestdv1.ErrorReason_ERROR_REASON_START_FAILED
	}
	return reasonCode(r), errorInfo(r, meta)
}

// procReason knows the errors of packages proc and passwd.
func procReason(err error) (reason, bool) {
	for _, known := range []struct {
		err    error
		reason reason
	}{
		{passwd.ErrUnknownUser, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER},
		{passwd.ErrUnknownGroup, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER},
		{proc.ErrNotFound, guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND},
		{proc.ErrExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS},
		{proc.ErrStale, guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE},
		{proc.ErrTooMany, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED},
		{proc.ErrInvalid, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		{proc.ErrNoStdin, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		{proc.ErrNoTTY, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		{proc.ErrStdinClosed, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED},
		{proc.ErrProcessDone, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED},
		{proc.ErrNever, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED},
		{proc.ErrClosed, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN},
	} {
		if errors.Is(err, known.err) {
			return known.reason, true
		}
	}
	return 0, false
}

// accessReason knows the errors of package access.
func accessReason(err error) (reason, bool) {
	switch {
	case errors.Is(err, access.ErrNotFound):
		return guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND, true
	case errors.Is(err, access.ErrExists):
		return guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS, true
	case errors.Is(err, access.ErrTooManyGrants), errors.Is(err, access.ErrTooManyWatchers):
		return guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, true
	case errors.Is(err, access.ErrStoreClosed):
		return guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, true
	}
	return 0, false
}

// netReason knows the errors of package guestnet.
func netReason(err error) (reason, bool) {
	var address *guestnet.AddressError
	var name *net.DNSError
	switch {
	case errors.As(err, &address):
		return guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, true
	case errors.As(err, &name):
		return guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_HOST, true
	case errors.Is(err, guestnet.ErrTooManyWatches):
		return guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, true
	case errors.Is(err, guestnet.ErrClosed):
		return guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, true
	}
	return 0, false
}

// filesReason knows the errors of package fsops, and adds what they carry to
// meta. A failed write is classified by its errno; only its count is special.
func filesReason(err error, meta map[string]string) (reason, bool) {
	var sum *fsops.ChecksumError
	var size *fsops.SizeError
	var write *fsops.WriteError
	var unsafe *archive.UnsafeEntryError
	switch {
	case errors.As(err, &sum):
		meta["want"], meta["got"] = hex.EncodeToString(sum.Want), hex.EncodeToString(sum.Got)
		return guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, true
	case errors.As(err, &size):
		meta["want"], meta["got"] = strconv.FormatInt(size.Want, 10), strconv.FormatInt(size.Got, 10)
		return guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, true
	case errors.Is(err, fsops.ErrSpecial):
		return guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE, true
	case errors.Is(err, fsops.ErrBadPattern):
		return guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, true
	case errors.Is(err, fsops.ErrTooMany), errors.Is(err, fsops.ErrWatchLimit):
		return guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, true
	case errors.As(err, &unsafe):
		meta["path"] = unsafe.Name
		return guestdv1.ErrorReason_ERROR_REASON_UNSAFE_ENTRY, true
	case errors.Is(err, archive.ErrHeader), errors.Is(err, archive.ErrPattern), errors.Is(err, io.ErrUnexpectedEOF):
		return guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, true
	case errors.Is(err, fsops.ErrResume):
		return guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH, true
	case errors.Is(err, fsops.ErrBusy):
		return guestdv1.ErrorReason_ERROR_REASON_LOCKED, true
	case errors.As(err, &write):
		meta["written"] = strconv.FormatInt(write.Written, 10)
		if meta["path"] == "" {
			meta["path"], meta["op"] = write.Path, "write"
		}
	}
	return 0, false
}

// errorInfo builds the detail.
func errorInfo(r reason, meta map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Reason:   strings.TrimPrefix(r.String(), "ERROR_REASON_"),
		Domain:   errorDomain,
		Metadata: meta,
	}
}

// reasonCode is the status code that error.proto documents for a reason.
func reasonCode(r reason) codes.Code {
	switch r {
	case guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		guestdv1.ErrorReason_ERROR_REASON_UNSAFE_ENTRY:
		return codes.InvalidArgument
	case guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND,
		guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER,
		guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_HOST,
		guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND:
		return codes.NotFound
	case guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS:
		return codes.AlreadyExists
	case guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:
		return codes.PermissionDenied
	case guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH:
		return codes.DataLoss
	case guestdv1.ErrorReason_ERROR_REASON_NO_SPACE,
		guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED:
		return codes.ResourceExhausted
	case guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED:
		return codes.Unimplemented
	case guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT:
		return codes.DeadlineExceeded
	case guestdv1.ErrorReason_ERROR_REASON_LOCKED:
		return codes.Aborted
	case guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN:
		return codes.Unavailable
	case guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE,
		guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED,
		guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE,
		guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY,
		guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH,
		guestdv1.ErrorReason_ERROR_REASON_START_FAILED:
		return codes.FailedPrecondition
	}
	return codes.Internal
}

// printable makes text fit to travel: valid UTF-8, with other bytes written as
// \xNN, and at most about maxErrorText bytes.
func printable(text string) string {
	if utf8.ValidString(text) && len(text) <= maxErrorText {
		return text
	}
	const ellipsis = "…"
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		piece := text[i : i+size]
		if r == utf8.RuneError && size == 1 {
			piece = fmt.Sprintf(`\x%02X`, text[i])
		}
		if b.Len()+len(piece)+len(ellipsis) > maxErrorText {
			b.WriteString(ellipsis)
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}
