//go:build linux

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestExecFields(t *testing.T) {
	fields := (&guestdv1.ExecResponse{}).ProtoReflect().Descriptor().Fields()
	if fields.ByName("stdout").Number() != stdoutField || fields.ByName("stderr").Number() != stderrField {
		t.Error("ExecResponse's fields have changed")
	}
	if (&guestdv1.ExecRequest{}).ProtoReflect().Descriptor().Fields().ByName("stdin").Number() != stdinField {
		t.Error("ExecRequest's fields have changed")
	}
}

func TestExec(t *testing.T) {
	a := serve(t, Config{})
	x := a.exec(t, startRequest(script("echo out; echo err >&2; exit 3")))
	p := x.untilStarted(t)
	if !x.started.Created || p.Pid == 0 || p.Id == "" || !strings.HasSuffix(p.Handle, "/"+p.Id) {
		t.Errorf("started %v", x.started)
	}
	x.wantExit(t, 3)
	if x.stdout.String() != "out\n" || x.stderr.String() != "err\n" || x.exit.OutputHeld {
		t.Errorf("got %q, %q, %v", x.stdout.String(), x.stderr.String(), x.exit)
	}
	if x.exit.Duration.AsDuration() <= 0 || x.exit.EndTime.AsTime().Before(p.StartTime.AsTime()) {
		t.Errorf("times: %v, started %v", x.exit, p.StartTime)
	}
}

func TestExecManyBytes(t *testing.T) {
	a := serve(t, Config{})
	const size = 20 << 20
	x := a.exec(t, startRequest(script(fmt.Sprintf("head -c %d /dev/zero; exit 7", size))))
	x.wantExit(t, 7)
	if x.stdout.Len() != size || len(x.gaps) != 0 || x.afterExit {
		t.Errorf("got %d bytes, gaps %v, output after exit: %v", x.stdout.Len(), x.gaps, x.afterExit)
	}
}

// TestExecStdin sends more than any buffer holds through cat, with each codec.
func TestExecStdin(t *testing.T) {
	a := serve(t, Config{})
	data := bytes.Repeat([]byte("0123456789abcde\n"), 8<<16)
	t.Run("stock", func(t *testing.T) {
		x := a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"sha256sum"}, Stdin: true}))
		for rest := data; len(rest) > 0; rest = rest[min(len(rest), 100_000):] {
			x.send(t, stdinRequest(rest[:min(len(rest), 100_000)]))
		}
		x.send(t, eofRequest())
		x.wantExit(t, 0)
		if want := fmt.Sprintf("%x  -\n", sha256.Sum256(data)); x.stdout.String() != want {
			t.Errorf("got %q, want %q", x.stdout.String(), want)
		}
	})
	t.Run("wire", func(t *testing.T) {
		conn := a.dial(t, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())))
		defer func() { _ = conn.Close() }()
		stream, err := guestdv1.NewProcessServiceClient(conn).Exec(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			_ = stream.Send(startRequest(&guestdv1.ProcessSpec{Args: []string{"cat"}, Stdin: true}))
			for rest := data; len(rest) > 0; rest = rest[min(len(rest), wire.ChunkSize):] {
				_ = stream.SendMsg(&wire.Data{Field: stdinField, Payload: mem.SliceBuffer(rest[:min(len(rest), wire.ChunkSize)])})
			}
			_ = stream.Send(eofRequest())
		})
		defer sender.Wait()
		got := sha256.New()
		in := wire.Incoming{ChunkFields: []protowire.Number{stdoutField, stderrField}, Message: new(guestdv1.ExecResponse)}
		defer in.Free()
		var pieces [][]byte
		for {
			err := stream.RecvMsg(&in)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			pieces = in.AppendTo(pieces[:0])
			for _, p := range pieces {
				got.Write(p)
			}
		}
		if want := sha256.Sum256(data); !bytes.Equal(got.Sum(nil), want[:]) {
			t.Error("cat gave back something else")
		}
	})
}

// TestExecStdinUnread: a process that does not read its input holds up neither
// signals nor, once it is gone, the client.
func TestExecStdinUnread(t *testing.T) {
	a := serve(t, Config{})
	x := a.exec(t, startRequest(&guestdv1.ProcessSpec{
		Args: []string{"sh", "-c", `trap "echo term; exit 4" TERM; echo ready; while :; do sleep 0.05; done`}, Stdin: true,
	}))
	x.untilOutput(t, "ready")
	piece := make([]byte, 128<<10)
	for range 6 { // more than a pipe, less than the agent's bound
		x.send(t, stdinRequest(piece))
	}
	x.send(t, signalRequest("TERM"))
	x.wantExit(t, 4)
	if x.stdout.String() != "ready\nterm\n" {
		t.Errorf("got %q", x.stdout.String())
	}

	// One that closed its input: everything sent is accepted and dropped.
	x = a.exec(t, startRequest(&guestdv1.ProcessSpec{
		Args: []string{"sh", "-c", `exec <&-; trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done`}, Stdin: true,
	}))
	x.untilOutput(t, "ready")
	for range 64 {
		x.send(t, stdinRequest(piece))
	}
	x.send(t, eofRequest(), signalRequest("TERM"))
	x.wantExit(t, 5)
}

func TestExecTerminal(t *testing.T) {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIP: no terminals for this user: %v", err)
	}
	_ = ptmx.Close()
	a := serve(t, Config{})
	x := a.exec(t, startRequest(&guestdv1.ProcessSpec{
		Args:     []string{"sh", "-c", `trap "stty size; exit 6" WINCH; stty size; while :; do sleep 0.05; done`},
		Terminal: &guestdv1.Terminal{Size: &guestdv1.TerminalSize{Rows: 33, Columns: 77}},
	}))
	x.untilOutput(t, "33 77")
	x.send(t, &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Resize{
		Resize: &guestdv1.TerminalSize{Rows: 40, Columns: 100},
	}})
	x.wantExit(t, 6)
	if !strings.Contains(x.stdout.String(), "40 100") {
		t.Errorf("got %q", x.stdout.String())
	}

	// End of file on a terminal is its character.
	x = a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"cat"}, Terminal: &guestdv1.Terminal{}}))
	x.send(t, stdinRequest([]byte("hello\n")), eofRequest())
	x.wantExit(t, 0)
	if got := x.stdout.String(); got != "hello\r\nhello\r\n" {
		t.Errorf("got %q", got)
	}
}

// TestExecHeld: a background child that keeps the pipe delays no exit, and what
// it writes still comes.
func TestExecHeld(t *testing.T) {
	a := serve(t, Config{})
	spec := script(`(read line; echo "late $line") & echo early; exit 0`)
	spec.Stdin = true
	// The child's stdin is not the pipe in a POSIX shell's background; give
	// it by a descriptor.
	spec.Args[2] = `exec 3<&0; (read line <&3; echo "late $line") & echo early; exit 0`
	x := a.exec(t, startRequest(spec))
	x.until(t, "exit", func() bool { return x.exit != nil })
	if !x.exit.OutputHeld || x.stdout.String() != "early\n" {
		t.Errorf("exit %v after %q", x.exit, x.stdout.String())
	}
	x.send(t, stdinRequest([]byte("word\n")))
	if err := x.finish(); err != nil {
		t.Fatal(err)
	}
	if x.stdout.String() != "early\nlate word\n" || !x.afterExit {
		t.Errorf("got %q", x.stdout.String())
	}
}

func TestExecSameID(t *testing.T) {
	a := serve(t, Config{})
	spec := func() *guestdv1.ProcessSpec {
		s := script("echo once; read line; echo $line")
		s.Id, s.Stdin = "job", true
		s.Env = map[string]string{"A": "1", "B": "2", "C": "3"}
		return s
	}
	x := a.exec(t, startRequest(spec()))
	x.untilOutput(t, "once")
	y := a.exec(t, startRequest(spec()))
	y.untilOutput(t, "once")
	if !x.started.Created || y.started.Created || x.started.Process.Pid != y.started.Process.Pid {
		t.Errorf("started %v and %v", x.started, y.started)
	}
	other := spec()
	other.Env["C"] = "4"
	wantFailure(t, a.exec(t, startRequest(other)).finish(), codes.AlreadyExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS)

	y.send(t, stdinRequest([]byte("both\n")))
	x.wantExit(t, 0)
	y.wantExit(t, 0)
	if x.stdout.String() != "once\nboth\n" || y.stdout.String() != x.stdout.String() {
		t.Errorf("got %q and %q", x.stdout.String(), y.stdout.String())
	}
}

func TestAttach(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	spec := script("printf 0123456789; printf abc >&2; read line; echo $line; exit 9")
	spec.Stdin = true
	started, err := a.Start(ctx, &guestdv1.StartRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	id := started.Process.Handle
	eventually(t, "the output is there", func() bool {
		got, err := a.Get(ctx, &guestdv1.GetRequest{Process: id})
		return err == nil && got.Process.StdoutEnd == 10 && got.Process.StderrEnd == 3
	})
	for _, c := range []struct {
		name           string
		attach         *guestdv1.ExecAttach
		stdout, stderr string
	}{
		{"all", &guestdv1.ExecAttach{}, "0123456789", "abc"},
		{"offset", &guestdv1.ExecAttach{StdoutOffset: new(uint64(4)), StderrOffset: new(uint64(3))}, "456789", ""},
		{"from now", &guestdv1.ExecAttach{FromNow: true}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.attach.Process, c.attach.NoFollow = id, true
			x := a.exec(t, attachRequest(c.attach))
			if err := x.finish(); err != nil {
				t.Fatal(err)
			}
			if x.stdout.String() != c.stdout || x.stderr.String() != c.stderr || x.exit != nil {
				t.Errorf("got %q, %q, %v", x.stdout.String(), x.stderr.String(), x.exit)
			}
		})
	}
	x := a.exec(t, attachRequest(&guestdv1.ExecAttach{Process: id, StdoutOffset: new(uint64(8))}))
	x.untilOutput(t, "89")
	x.send(t, stdinRequest([]byte("more\n")))
	x.wantExit(t, 9)
	if x.stdout.String() != "89more\n" {
		t.Errorf("got %q", x.stdout.String())
	}
	x = a.exec(t, attachRequest(&guestdv1.ExecAttach{Process: id, NoFollow: true}))
	x.wantExit(t, 9)
	if x.stdout.String() != "0123456789more\n" || x.stderr.String() != "abc" {
		t.Errorf("after the end got %q, %q", x.stdout.String(), x.stderr.String())
	}
}

// TestAttachGap counts every byte of what an observer missed.
func TestAttachGap(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	const size = 1 << 20
	spec := script(fmt.Sprintf("head -c %d /dev/zero", size))
	spec.OutputBufferBytes = 64 << 10
	started, err := a.Start(ctx, &guestdv1.StartRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	id := started.Process.Id
	if _, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: id}); err != nil {
		t.Fatal(err)
	}
	x := a.exec(t, attachRequest(&guestdv1.ExecAttach{Process: id, StdoutOffset: new(uint64(1000))}))
	x.wantExit(t, 0)
	if len(x.gaps) != 1 || x.gaps[0].Offset != 1000 || x.gaps[0].Stream != guestdv1.OutputStream_OUTPUT_STREAM_STDOUT ||
		1000+x.gaps[0].Bytes+uint64(x.stdout.Len()) != size {
		t.Errorf("gaps %v and %d bytes do not make up %d from 1000 on", x.gaps, x.stdout.Len(), size)
	}
	x = a.exec(t, attachRequest(&guestdv1.ExecAttach{Process: id}))
	x.wantExit(t, 0)
	if len(x.gaps) != 0 || x.stdout.Len() == 0 {
		t.Errorf("from the oldest byte kept: gaps %v, %d bytes", x.gaps, x.stdout.Len())
	}
}

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

// TestExecClientGone cancels the stream at every point of an exec, and looks at
// what becomes of the process.
func TestExecClientGone(t *testing.T) {
	const text = `echo one; read a; echo two; read b; echo three; exec sleep 300`
	points := []struct {
		name string
		upTo func(t *testing.T, x *execStream)
	}{
		{"after start", func(*testing.T, *execStream) {}},
		{"after started", func(t *testing.T, x *execStream) { x.untilStarted(t) }},
		{"after output", func(t *testing.T, x *execStream) { x.untilOutput(t, "one") }},
		{"after stdin", func(t *testing.T, x *execStream) { x.send(t, stdinRequest([]byte("a\n"))) }},
		{"after more output", func(t *testing.T, x *execStream) {
			x.send(t, stdinRequest([]byte("a\n")))
			x.untilOutput(t, "two")
		}},
		{"after half-close", func(t *testing.T, x *execStream) {
			x.send(t, stdinRequest([]byte("a\nb\n")))
			_ = x.CloseSend()
			x.untilOutput(t, "three")
		}},
		{"in the middle of unread stdin", func(t *testing.T, x *execStream) {
			x.untilStarted(t)
			for range 8 {
				x.send(t, stdinRequest(make([]byte, 128<<10)))
			}
		}},
	}
	for _, kill := range []bool{false, true} {
		for _, point := range points {
			t.Run(fmt.Sprintf("%s/kill=%v", point.name, kill), func(t *testing.T) {
				a := serve(t, Config{})
				spec := script(text)
				spec.Id, spec.Stdin = "victim", true
				first := startRequest(spec)
				if kill {
					first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
				}
				x := a.exec(t, first)
				point.upTo(t, x)
				x.cancel()
				if err := x.finish(); status.Code(err) != codes.Canceled {
					t.Errorf("got %v", err)
				}
				if kill {
					a.stopped(t)
					return
				}
				if x.started == nil {
					return // whether it was started depends
				}
				got, err := a.Get(testContext(t), &guestdv1.GetRequest{Process: "victim"})
				if err != nil || got.Process.State != guestdv1.ProcessState_PROCESS_STATE_RUNNING {
					t.Errorf("afterwards: %v, %v", got, err)
				}
			})
		}
	}
}

// TestExecKillGrace: what ignores the hang-up is killed.
func TestExecKillGrace(t *testing.T) {
	a := serve(t, Config{})
	spec := script(`trap "" HUP TERM; (while :; do sleep 0.05; done) & echo ready; wait; while :; do sleep 0.05; done`)
	spec.KillGrace = durationpb.New(1)
	first := startRequest(spec)
	first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	x := a.exec(t, first)
	x.untilOutput(t, "ready")
	x.cancel()
	a.stopped(t)
}

// TestExecConnectionCut loses the connection without a word.
func TestExecConnectionCut(t *testing.T) {
	a := serve(t, Config{})
	conn := a.dial(t)
	stream, err := guestdv1.NewProcessServiceClient(conn).Exec(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	first := startRequest(script("echo ready; sleep 300"))
	first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	if err := stream.Send(first); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	a.stopped(t)
}

// TestExecSlowReader: a lossless reader that stops holds its own process up
// and nobody else; an observer that stops holds nobody up.
func TestExecSlowReader(t *testing.T) {
	a := serve(t, Config{})
	const size = 32 << 20
	slow := a.exec(t, startRequest(script(fmt.Sprintf("head -c %d /dev/zero; echo done >&2", size))))
	id := slow.untilStarted(t).Id
	// It is held up when the flow control of the stream and the ring are
	// full: the offset no longer moves though bytes are missing.
	get := func() *guestdv1.Process {
		got, err := a.Get(testContext(t), &guestdv1.GetRequest{Process: id})
		if err != nil {
			t.Fatal(err)
		}
		return got.Process
	}
	var before uint64
	still := 0
	eventually(t, "the process is held up", func() bool {
		now := get().StdoutEnd
		if now == before && now > 0 {
			still++
		} else {
			still = 0
		}
		before = now
		return still > 5
	})
	if before >= size {
		t.Fatalf("all of %d bytes went nowhere", before)
	}

	quick := a.exec(t, startRequest(script("head -c 5000000 /dev/zero")))
	quick.wantExit(t, 0)
	if quick.stdout.Len() != 5000000 {
		t.Errorf("beside a slow reader got %d bytes", quick.stdout.Len())
	}

	slow.wantExit(t, 0)
	if slow.stdout.Len() != size || len(slow.gaps) != 0 || slow.stderr.String() != "done\n" {
		t.Errorf("slow reader got %d bytes, gaps %v, %q", slow.stdout.Len(), slow.gaps, slow.stderr.String())
	}

	first := startRequest(script(fmt.Sprintf("head -c %d /dev/zero", size)))
	first.GetStart().Mode = guestdv1.SubscribeMode_SUBSCRIBE_MODE_OBSERVER
	observer := a.exec(t, first)
	id = observer.untilStarted(t).Id
	if _, err := a.Wait(testContext(t), &guestdv1.WaitRequest{Process: id}); err != nil {
		t.Fatal(err)
	}
	observer.wantExit(t, 0)
	var missed uint64
	for _, gap := range observer.gaps {
		missed += gap.Bytes
	}
	if missed == 0 || missed+uint64(observer.stdout.Len()) != size {
		t.Errorf("observer got %d bytes and gaps of %d, of %d", observer.stdout.Len(), missed, size)
	}
}

// TestExecThousand runs a thousand at once on one connection.
func TestExecThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: starts 1,000 processes")
	}
	a := serve(t, Config{})
	const n = 1000
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var running sync.WaitGroup
	errs := make(chan error, n)
	release := make(chan struct{})
	var ready sync.WaitGroup
	ready.Add(n)
	for i := range n {
		running.Go(func() {
			errs <- execEcho(ctx, a, fmt.Sprint("line ", i, "\n"), ready.Done, release)
		})
	}
	all := make(chan struct{})
	go func() {
		ready.Wait()
		close(all)
	}()
	select {
	case <-all:
		if running := a.server.config.Processes.Stats().Running; running != n {
			t.Errorf("%d of %d run at once", running, n)
		}
	case <-ctx.Done():
		t.Error("not all have started")
	}
	close(release)
	running.Wait()
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	a.stopped(t)
}

// execEcho runs cat, calls started, and after release sends line through it.
func execEcho(ctx context.Context, a *testAgent, line string, started func(), release <-chan struct{}) error {
	once := sync.OnceFunc(started)
	defer once()
	stream, err := a.Exec(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(startRequest(&guestdv1.ProcessSpec{Args: []string{"cat"}, Stdin: true})); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	once()
	<-release
	if err := errors.Join(stream.Send(stdinRequest([]byte(line))), stream.Send(eofRequest())); err != nil {
		return err
	}
	x := &execStream{ProcessService_ExecClient: stream}
	if err := x.finish(); err != nil {
		return err
	}
	if x.stdout.String() != line || x.exit == nil || x.exit.Code != 0 {
		return fmt.Errorf("got %q, %v, want %q", x.stdout.String(), x.exit, line)
	}
	return nil
}

func TestNextSize(t *testing.T) {
	size := idleBuffer
	var sizes []int
	for _, n := range []int{10, 4096, 65536, 262144, 100} {
		size = nextSize(size, min(n, size))
		sizes = append(sizes, size)
	}
	if fmt.Sprint(sizes) != "[4096 65536 262144 262144 4096]" {
		t.Errorf("got %v", sizes)
	}
}
