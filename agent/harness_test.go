//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// testAgent is an agent on a unix socket, with one stock client's connection.
type testAgent struct {
	guestdv1.ProcessServiceClient
	system guestdv1.SystemServiceClient
	server *Server
	conn   *grpc.ClientConn
	socket string
	served chan error
}

// serve starts an agent for one test, which must leave nothing behind. prepare
// gets the server before it serves.
func serve(t testing.TB, config Config, prepare ...func(*Server)) *testAgent {
	t.Helper()
	leaks := watchLeaks(t)
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(server)
	}
	a := &testAgent{server: server, socket: filepath.Join(sharedDir(t), "s"), served: make(chan error, 1)}
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { a.served <- server.Serve(l) }()
	a.conn = a.dial(t)
	a.ProcessServiceClient = guestdv1.NewProcessServiceClient(a.conn)
	a.system = guestdv1.NewSystemServiceClient(a.conn)
	t.Cleanup(func() {
		_ = a.conn.Close()
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-a.served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		leaks()
	})
	return a
}

// dial opens one more connection.
func (a *testAgent) dial(t testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix:"+a.socket, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// script is the spec of a shell script.
func script(text string) *guestdv1.ProcessSpec {
	return &guestdv1.ProcessSpec{Args: []string{"sh", "-c", text}}
}

// startRequest is the first message that starts spec.
func startRequest(spec *guestdv1.ProcessSpec) *guestdv1.ExecRequest {
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Start{Start: &guestdv1.ExecStart{Spec: spec}}}
}

func attachRequest(a *guestdv1.ExecAttach) *guestdv1.ExecRequest {
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Attach{Attach: a}}
}

func stdinRequest(data []byte) *guestdv1.ExecRequest {
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Stdin{Stdin: data}}
}

func eofRequest() *guestdv1.ExecRequest {
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_StdinEof{StdinEof: &guestdv1.StdinEof{}}}
}

func signalRequest(name string) *guestdv1.ExecRequest {
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Signal{Signal: &guestdv1.ExecSignal{Name: name}}}
}

// execStream is an Exec stream whose responses are put together.
type execStream struct {
	guestdv1.ProcessService_ExecClient
	cancel context.CancelFunc

	started        *guestdv1.ExecStarted
	stdout, stderr bytes.Buffer
	gaps           []*guestdv1.OutputGap
	exit           *guestdv1.ProcessExit
	afterExit      bool // output came after exit
}

// exec opens a stream and sends its first request.
func (a *testAgent) exec(t testing.TB, first *guestdv1.ExecRequest) *execStream {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	t.Cleanup(cancel)
	stream, err := a.Exec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	x := &execStream{ProcessService_ExecClient: stream, cancel: cancel}
	x.send(t, first)
	return x
}

func (x *execStream) send(t testing.TB, requests ...*guestdv1.ExecRequest) {
	t.Helper()
	for _, r := range requests {
		// The error of a broken stream is io.EOF; Recv tells the cause.
		if err := x.Send(r); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// next takes one response in.
func (x *execStream) next() error {
	resp, err := x.Recv()
	if err != nil {
		return err
	}
	switch e := resp.Event.(type) {
	case *guestdv1.ExecResponse_Started:
		x.started = e.Started
	case *guestdv1.ExecResponse_Stdout:
		x.stdout.Write(e.Stdout.Data)
		x.afterExit = x.afterExit || x.exit != nil
	case *guestdv1.ExecResponse_Stderr:
		x.stderr.Write(e.Stderr.Data)
		x.afterExit = x.afterExit || x.exit != nil
	case *guestdv1.ExecResponse_Gap:
		x.gaps = append(x.gaps, e.Gap)
	case *guestdv1.ExecResponse_Exit:
		x.exit = e.Exit
	}
	return nil
}

// until takes responses in until done, or the test fails.
func (x *execStream) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for !done() {
		if err := x.next(); err != nil {
			t.Fatalf("%v before %s; so far %q, %q", err, what, x.stdout.String(), x.stderr.String())
		}
	}
}

// untilStarted takes the first response in.
func (x *execStream) untilStarted(t testing.TB) *guestdv1.Process {
	t.Helper()
	x.until(t, "started", func() bool { return x.started != nil })
	return x.started.Process
}

// untilOutput takes responses in until stdout holds text.
func (x *execStream) untilOutput(t testing.TB, text string) {
	t.Helper()
	x.until(t, "output "+text, func() bool { return bytes.Contains(x.stdout.Bytes(), []byte(text)) })
}

// finish takes everything in and returns the error of the stream.
func (x *execStream) finish() error {
	for {
		if err := x.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// wantExit takes everything in and checks the exit code.
func (x *execStream) wantExit(t testing.TB, code uint32) {
	t.Helper()
	if err := x.finish(); err != nil {
		t.Fatal(err)
	}
	if x.exit.GetSignal() != 0 || x.exit.GetCode() != code || x.exit == nil {
		t.Errorf("exit %v, want code %d; output %q, %q", x.exit, code, x.stdout.String(), x.stderr.String())
	}
}

// stopped waits until the agent has no living process.
func (a *testAgent) stopped(t testing.TB) {
	t.Helper()
	eventually(t, "all processes are gone", func() bool {
		stats := a.server.config.Processes.Stats()
		return stats.Running+stats.Lingering == 0
	})
}
