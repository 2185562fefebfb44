//go:build linux

package agent

import (
	"math"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestExecRefused(t *testing.T) {
	a := serve(t, Config{})
	invalid := guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	startWith := func(change func(*guestdv1.ExecStart)) *guestdv1.ExecRequest {
		r := startRequest(&guestdv1.ProcessSpec{Args: []string{"sleep", "300"}})
		change(r.GetStart())
		return r
	}
	spec := func(change func(*guestdv1.ProcessSpec)) *guestdv1.ExecRequest {
		return startWith(func(s *guestdv1.ExecStart) { change(s.Spec) })
	}
	for name, c := range map[string]struct {
		first  *guestdv1.ExecRequest
		code   codes.Code
		reason guestdv1.ErrorReason
		meta   []string
	}{
		"empty":          {&guestdv1.ExecRequest{}, codes.InvalidArgument, invalid, nil},
		"stdin first":    {stdinRequest([]byte("x")), codes.InvalidArgument, invalid, nil},
		"signal first":   {signalRequest("TERM"), codes.InvalidArgument, invalid, nil},
		"no spec":        {startWith(func(s *guestdv1.ExecStart) { s.Spec = nil }), codes.InvalidArgument, invalid, nil},
		"mode":           {startWith(func(s *guestdv1.ExecStart) { s.Mode = 99 }), codes.InvalidArgument, invalid, nil},
		"disconnect":     {startWith(func(s *guestdv1.ExecStart) { s.OnDisconnect = 99 }), codes.InvalidArgument, invalid, nil},
		"no args":        {spec(func(s *guestdv1.ProcessSpec) { s.Args = nil }), codes.InvalidArgument, invalid, nil},
		"both args":      {spec(func(s *guestdv1.ProcessSpec) { s.RawArgs = [][]byte{{'a'}} }), codes.InvalidArgument, invalid, nil},
		"NUL in args":    {spec(func(s *guestdv1.ProcessSpec) { s.Args = []string{"a\x00b"} }), codes.InvalidArgument, invalid, nil},
		"NUL in env":     {spec(func(s *guestdv1.ProcessSpec) { s.Env = map[string]string{"A": "\x00"} }), codes.InvalidArgument, invalid, nil},
		"NUL in cwd":     {spec(func(s *guestdv1.ProcessSpec) { s.RawCwd = []byte("/a\x00") }), codes.InvalidArgument, invalid, nil},
		"id":             {spec(func(s *guestdv1.ProcessSpec) { s.Id = "a b" }), codes.InvalidArgument, invalid, nil},
		"stdout":         {spec(func(s *guestdv1.ProcessSpec) { s.Stdout = guestdv1.OutputMode_OUTPUT_MODE_MERGE }), codes.InvalidArgument, invalid, nil},
		"stderr":         {spec(func(s *guestdv1.ProcessSpec) { s.Stderr = 99 }), codes.InvalidArgument, invalid, nil},
		"buffer":         {spec(func(s *guestdv1.ProcessSpec) { s.OutputBufferBytes = math.MaxUint64 }), codes.InvalidArgument, invalid, nil},
		"rlimit":         {spec(func(s *guestdv1.ProcessSpec) { s.Rlimits = []*guestdv1.Rlimit{{Resource: "patience"}} }), codes.InvalidArgument, invalid, nil},
		"limits":         {spec(func(s *guestdv1.ProcessSpec) { s.Limits = &guestdv1.ResourceLimits{Pids: math.MaxUint64} }), codes.InvalidArgument, invalid, nil},
		"timeout":        {spec(func(s *guestdv1.ProcessSpec) { s.Timeout = durationpb.New(-1) }), codes.InvalidArgument, invalid, nil},
		"grace":          {spec(func(s *guestdv1.ProcessSpec) { s.KillGrace = &durationpb.Duration{Nanos: -5} }), codes.InvalidArgument, invalid, nil},
		"terminal size":  {spec(func(s *guestdv1.ProcessSpec) { s.Terminal = &guestdv1.Terminal{Size: &guestdv1.TerminalSize{Rows: 1}} }), codes.InvalidArgument, invalid, nil},
		"terminal modes": {spec(func(s *guestdv1.ProcessSpec) { s.Terminal = &guestdv1.Terminal{Modes: map[uint32]uint32{256: 1}} }), codes.InvalidArgument, invalid, nil},
		"no program": {
			spec(func(s *guestdv1.ProcessSpec) { s.Args = []string{"/no/such/program"} }),
			codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_START_FAILED,
			[]string{"stage", "", "path", "/no/such/program", "errno", "ENOENT"},
		},
		"not in PATH": {
			spec(func(s *guestdv1.ProcessSpec) { s.Args = []string{"no-such-program"} }),
			codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_START_FAILED,
			[]string{"stage", "lookup", "path", "no-such-program", "errno", "ENOENT"},
		},
		"not executable": {
			spec(func(s *guestdv1.ProcessSpec) { s.Args = []string{"/etc/passwd"} }),
			codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_START_FAILED,
			[]string{"path", "/etc/passwd", "errno", "EACCES"},
		},
		"no cwd": {
			spec(func(s *guestdv1.ProcessSpec) { s.Cwd = "/no/such/dir" }),
			codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_START_FAILED,
			[]string{"stage", "cwd", "path", "/no/such/dir", "errno", "ENOENT"},
		},
		"cwd is a file": {
			spec(func(s *guestdv1.ProcessSpec) { s.Cwd = "/etc/passwd" }),
			codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_START_FAILED,
			[]string{"stage", "cwd", "errno", "ENOTDIR"},
		},
		"user": {
			spec(func(s *guestdv1.ProcessSpec) { s.User = "nobody-of-this-name" }),
			codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER,
			[]string{"stage", "user"},
		},
		"no shim for rlimits": {
			spec(func(s *guestdv1.ProcessSpec) {
				s.Rlimits = []*guestdv1.Rlimit{{Resource: "nofile", Soft: 10, Hard: 10}}
			}),
			codes.Unimplemented, guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED,
			nil,
		},
		"no process":   {attachRequest(&guestdv1.ExecAttach{Process: "nobody"}), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND, nil},
		"no id":        {attachRequest(&guestdv1.ExecAttach{}), codes.InvalidArgument, invalid, nil},
		"stale handle": {attachRequest(&guestdv1.ExecAttach{Process: "another-boot/x"}), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE, nil},
	} {
		t.Run(name, func(t *testing.T) {
			x := a.exec(t, c.first)
			wantFailure(t, x.finish(), c.code, c.reason, c.meta...)
			if x.started != nil {
				t.Errorf("started %v", x.started)
			}
		})
	}
	t.Run("no message at all", func(t *testing.T) {
		stream, err := a.Exec(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wantFailure(t, err, codes.InvalidArgument, invalid)
	})
	a.stopped(t)
}

// TestExecRefusedLater: a wrong request ends the stream, not the process.
func TestExecRefusedLater(t *testing.T) {
	a := serve(t, Config{})
	for name, request := range map[string]*guestdv1.ExecRequest{
		"second start":   startRequest(script("exit")),
		"attach":         attachRequest(&guestdv1.ExecAttach{Process: "x"}),
		"empty":          {},
		"unknown signal": signalRequest("NONSENSE"),
		"no signal":      {Request: &guestdv1.ExecRequest_Signal{Signal: &guestdv1.ExecSignal{}}},
		"scope":          {Request: &guestdv1.ExecRequest_Signal{Signal: &guestdv1.ExecSignal{Number: 15, Scope: 99}}},
		"no terminal":    {Request: &guestdv1.ExecRequest_Resize{Resize: &guestdv1.TerminalSize{Rows: 1, Columns: 1}}},
		"no size":        {Request: &guestdv1.ExecRequest_Resize{}},
		"no stdin":       stdinRequest([]byte("x")),
		"too much stdin": stdinRequest(make([]byte, wire.MaxData+1)),
	} {
		t.Run(name, func(t *testing.T) {
			x := a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"sleep", "300"}}))
			p := x.untilStarted(t)
			x.send(t, request)
			wantFailure(t, x.finish(), codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
			ctx := testContext(t)
			got, err := a.Get(ctx, &guestdv1.GetRequest{Process: p.Id})
			if err != nil || got.Process.State != guestdv1.ProcessState_PROCESS_STATE_RUNNING {
				t.Errorf("afterwards: %v, %v", got, err)
			}
			if _, err := a.Signal(ctx, &guestdv1.SignalRequest{Process: p.Id, Name: "KILL"}); err != nil {
				t.Error(err)
			}
		})
	}
	a.stopped(t)
}
