//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// interceptor is the edge of every call: it refuses what is not allowed, ends
// calls when the server stops, survives a handler's panic, and turns errors
// into what the wire says.
type interceptor struct {
	log     *slog.Logger
	allowed allowList
	// bind derives the context of a call from the transport's: it is done
	// when the client is gone, at the call's deadline, or, with
	// errShuttingDown as cause, when the server stops. release frees what it
	// takes.
	bind func(context.Context) (ctx context.Context, release func())
}

// newInterceptor returns an interceptor whose calls end with running, which
// must have a cause then.
func newInterceptor(running context.Context, log *slog.Logger) *interceptor {
	return &interceptor{log: log, bind: func(parent context.Context) (context.Context, func()) {
		ctx, cancel := context.WithCancelCause(parent)
		stop := context.AfterFunc(running, func() { cancel(context.Cause(running)) })
		return ctx, func() {
			stop()
			cancel(nil)
		}
	}}
}

// unary is the grpc.UnaryServerInterceptor.
func (i *interceptor) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	began := time.Now()
	ctx, release := i.bind(ctx)
	defer release()
	defer func() { err = i.finish(ctx, info.FullMethod, began, err) }()
	defer recoverTo(&err)
	if err := i.admit(info.Server, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream is the grpc.StreamServerInterceptor.
func (i *interceptor) stream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	began := time.Now()
	ctx, release := i.bind(ss.Context())
	defer release()
	defer func() { err = i.finish(ctx, info.FullMethod, began, err) }()
	defer recoverTo(&err)
	if err := i.admit(srv, info.FullMethod); err != nil {
		return err
	}
	return handler(srv, &boundStream{ServerStream: ss, ctx: ctx})
}

// admit returns the error for a method that is not allowed, or whose service has
// nothing to serve with.
func (i *interceptor) admit(service any, method string) error {
	if err := i.allowed.check(method); err != nil {
		return err
	}
	if s, ok := service.(interface{ available() error }); ok {
		return s.available()
	}
	return nil
}

// boundStream is a stream whose context ends with the server, too.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream has its context as a method
}

// Context returns the call's context.
func (s *boundStream) Context() context.Context { return s.ctx }

// finish logs a call's end and translates its error.
func (i *interceptor) finish(ctx context.Context, method string, began time.Time, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errShuttingDown) {
		err = errShuttingDown
	}
	var p *panicError
	if errors.As(err, &p) {
		i.log.Error("panic in a handler", "method", method, "panic", p.value, "stack", string(p.stack))
	}
	err = statusError(err)
	if i.log.Enabled(ctx, slog.LevelDebug) {
		i.log.Debug("call", "method", method, "code", status.Code(err), "took", time.Since(began))
	} else if status.Code(err) == codes.Internal {
		i.log.Error("call failed", "method", method, "err", err)
	}
	return err
}

// recoverTo, deferred, turns a panic into an error. Every goroutine that works
// for a call must defer it, and the handler must return what it finds: an
// error in one call is no reason to take the agent away from all others.
func recoverTo(err *error) {
	if value := recover(); value != nil {
		*err = &panicError{value: value, stack: debug.Stack()}
	}
}

// allowList is the set of full method names that may be called; nil allows
// everything.
type allowList map[string]bool

// newAllowList compiles the entries of Config.Allow against what is served.
// An entry that names nothing is an error: it is a typing mistake in a
// security setting.
func newAllowList(entries []string, services map[string]grpc.ServiceInfo) (allowList, error) {
	if entries == nil {
		return nil, nil
	}
	always := []string{"grpc.health.v1.Health", guestdv1.SystemService_GetInfo_FullMethodName}
	allowed := make(allowList)
	for _, entry := range append(always, entries...) {
		service, method, single := strings.Cut(strings.Trim(entry, "/"), "/")
		found := false
		for _, m := range services[service].Methods {
			if !single || m.Name == method {
				allowed["/"+service+"/"+m.Name] = true
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("allow list: no service or method %q", entry)
		}
	}
	return allowed, nil
}

// check returns the error for a method that is not allowed.
func (a allowList) check(method string) error {
	if a == nil || a[method] {
		return nil
	}
	return &callError{
		reason: guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
		text:   fmt.Sprintf("%s is switched off in this machine", strings.TrimPrefix(method, "/")),
	}
}
