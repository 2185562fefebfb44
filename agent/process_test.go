//go:build linux

package agent

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// start starts a process that must start.
func (a *testAgent) start(t testing.TB, spec *guestdv1.ProcessSpec) *guestdv1.Process {
	t.Helper()
	resp, err := a.Start(testContext(t), &guestdv1.StartRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Process
}

func TestStartGetListForget(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	spec := &guestdv1.ProcessSpec{
		Id: "first", RawArgs: [][]byte{[]byte("sh"), []byte("-c"), []byte("read x; exit 0"), {0xff, 0xfe}},
		Env: map[string]string{"SECRET": "hunter2"}, Cwd: dir, Stdin: true,
		Labels:  map[string]string{"who": "test"},
		Timeout: durationpb.New(time.Hour), KillGrace: durationpb.New(0),
	}
	p := a.start(t, spec)
	if !proto.Equal(p.Spec.Timeout, spec.Timeout) || !proto.Equal(p.Spec.KillGrace, spec.KillGrace) ||
		len(p.Spec.RawArgs) != 4 || !bytes.Equal(p.Spec.RawArgs[3], spec.RawArgs[3]) || p.Spec.Cwd != dir ||
		!p.Spec.Stdin || !maps.Equal(p.Spec.Labels, spec.Labels) {
		t.Errorf("spec %v", p.Spec)
	}
	if len(p.Spec.Env)+len(p.Spec.RawEnv) != 0 {
		t.Error("the environment is shown")
	}
	if again := a.start(t, spec); again.Pid != p.Pid {
		t.Errorf("started twice: %v, %v", p, again)
	}
	second := a.start(t, script("exit 0"))
	list, err := a.List(ctx, &guestdv1.ListRequest{})
	if err != nil || len(list.Processes) != 2 || list.Processes[0].Id != "first" || list.Processes[1].Id != second.Id {
		t.Fatalf("list %v, %v", list, err)
	}

	_, err = a.Forget(ctx, &guestdv1.ForgetRequest{Process: "first"})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	if _, err := a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: p.Handle, Data: []byte("x\n"), Eof: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: "first"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the record can go", func() bool {
		_, err := a.Forget(ctx, &guestdv1.ForgetRequest{Process: "first"})
		return err == nil
	})
	_, err = a.Get(ctx, &guestdv1.GetRequest{Process: "first"})
	wantFailure(t, err, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND)
}

// TestProcessMissing asks every call for a process that is not there, and for
// one of another boot.
func TestProcessMissing(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	for id, want := range map[string]struct {
		code   codes.Code
		reason guestdv1.ErrorReason
	}{
		"":               {codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		"nobody":         {codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND},
		"other-boot/job": {codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE},
	} {
		for name, call := range map[string]func() error{
			"Get": func() error { _, err := a.Get(ctx, &guestdv1.GetRequest{Process: id}); return err },
			"Signal": func() error {
				_, err := a.Signal(ctx, &guestdv1.SignalRequest{Process: id, Number: 15})
				return err
			},
			"WriteInput": func() error { _, err := a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: id}); return err },
			"Resize": func() error {
				_, err := a.Resize(ctx, &guestdv1.ResizeRequest{Process: id})
				return err
			},
			"Forget": func() error { _, err := a.Forget(ctx, &guestdv1.ForgetRequest{Process: id}); return err },
			"Wait":   func() error { _, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: id}); return err },
		} {
			t.Run(fmt.Sprintf("%s(%q)", name, id), func(t *testing.T) {
				wantFailure(t, call(), want.code, want.reason)
			})
		}
	}
}

func TestSignal(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	p := a.start(t, &guestdv1.ProcessSpec{Args: []string{"sleep", "300"}})
	for name, req := range map[string]*guestdv1.SignalRequest{
		"neither": {}, "both": {Number: 15, Name: "TERM"}, "unknown": {Name: "XYZ"},
		"number": {Number: 65}, "scope": {Number: 15, Scope: 9},
	} {
		req.Process = p.Id
		_, err := a.Signal(ctx, req)
		t.Run(name, func(t *testing.T) {
			wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
		})
	}
	if _, err := a.Signal(ctx, &guestdv1.SignalRequest{Process: p.Id, Name: "SIGUSR1"}); err != nil {
		t.Fatal(err)
	}
	waited, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id})
	if err != nil || waited.Exit.GetSignal() != 10 || waited.Exit.GetSignalName() != "SIGUSR1" {
		t.Fatalf("%v, %v", waited, err)
	}
	_, err = a.Signal(ctx, &guestdv1.SignalRequest{Process: p.Id, Name: "TERM"})
	wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED)
}

func TestWriteInputRefused(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	none := a.start(t, &guestdv1.ProcessSpec{Args: []string{"sleep", "300"}})
	ended := a.start(t, &guestdv1.ProcessSpec{Args: []string{"true"}, Stdin: true})
	if _, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: ended.Id}); err != nil {
		t.Fatal(err)
	}
	_, err := a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: none.Id, Data: []byte("x")})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	_, err = a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: none.Id, Data: make([]byte, 1<<20+1)})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	_, err = a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: ended.Id, Data: []byte("x")})
	wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED)
	_, err = a.Resize(ctx, &guestdv1.ResizeRequest{Process: none.Id, Size: &guestdv1.TerminalSize{Rows: 1, Columns: 1}})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
}

func TestEnvironment(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	update := func(req *guestdv1.UpdateEnvironmentRequest, want map[string]string) {
		t.Helper()
		resp, err := a.UpdateEnvironment(ctx, req)
		if err != nil || !maps.Equal(resp.Env, want) {
			t.Errorf("update: %v, %v, want %v", resp, err, want)
		}
		got, err := a.GetEnvironment(ctx, &guestdv1.GetEnvironmentRequest{})
		if err != nil || !maps.Equal(got.Env, want) {
			t.Errorf("get: %v, %v, want %v", got, err, want)
		}
	}
	update(&guestdv1.UpdateEnvironmentRequest{Set: map[string]string{"A": "1", "B": "x=y"}}, map[string]string{"A": "1", "B": "x=y"})
	update(&guestdv1.UpdateEnvironmentRequest{Unset: []string{"A"}, Set: map[string]string{"C": ""}}, map[string]string{"B": "x=y", "C": ""})
	x := a.exec(t, startRequest(script(`echo "$A,$B,$D"`)))
	x.wantExit(t, 0)
	if x.stdout.String() != ",x=y,\n" {
		t.Errorf("got %q", x.stdout.String())
	}
	update(&guestdv1.UpdateEnvironmentRequest{Clear: true, Set: map[string]string{"D": "4"}}, map[string]string{"D": "4"})
	for _, name := range []string{"", "A=B", "A\x00"} {
		_, err := a.UpdateEnvironment(ctx, &guestdv1.UpdateEnvironmentRequest{Clear: true, Set: map[string]string{name: "x"}})
		wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	}
	update(&guestdv1.UpdateEnvironmentRequest{}, map[string]string{"D": "4"})
}

func TestWait(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	file := filepath.Join(t.TempDir(), "file")
	spec := script(fmt.Sprintf("echo begin; echo 'value=42;' >&2; read line; touch %s; exit 3", file))
	spec.Stdin = true
	p := a.start(t, spec)

	exit := &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Exit{}}
	output := &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{Pattern: `value=(\d+);`}}}
	got, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id, Conditions: []*guestdv1.WaitCondition{exit, output}})
	if err != nil || got.Condition != 1 || string(got.Matched) != "value=42;" || got.MatchedOffset != 0 || got.Exit != nil {
		t.Errorf("output: %v, %v", got, err)
	}
	_, err = a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id, Timeout: durationpb.New(1)})
	wantFailure(t, err, codes.DeadlineExceeded, guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT)

	if _, err := a.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: p.Id, Eof: true}); err != nil {
		t.Fatal(err)
	}
	onFile := &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_File{File: &guestdv1.WaitFile{RawPath: []byte(file)}}}
	if got, err = a.Wait(ctx, &guestdv1.WaitRequest{Conditions: []*guestdv1.WaitCondition{onFile}}); err != nil || got.Condition != 0 {
		t.Errorf("file: %v, %v", got, err)
	}
	if got, err = a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id}); err != nil || got.Exit.GetCode() != 3 {
		t.Errorf("exit: %v, %v", got, err)
	}

	// What can never come any more ends the wait.
	output.GetOutput().Pattern = "never"
	_, err = a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id, Conditions: []*guestdv1.WaitCondition{output}})
	wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Port{Port: &guestdv1.WaitPort{
		Port: uint32(l.Addr().(*net.TCPAddr).Port),
	}}}
	if got, err = a.Wait(ctx, &guestdv1.WaitRequest{Conditions: []*guestdv1.WaitCondition{port}}); err != nil {
		t.Errorf("port: %v, %v", got, err)
	}
}

func TestWaitRefused(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	p := a.start(t, &guestdv1.ProcessSpec{Args: []string{"sleep", "300"}})
	for name, c := range map[string]*guestdv1.WaitCondition{
		"empty":   {},
		"pattern": {Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{Pattern: "("}}},
		"offset":  {Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{Offset: 1 << 63}}},
		"stream":  {Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{Stream: 7}}},
		"port":    {Condition: &guestdv1.WaitCondition_Port{Port: &guestdv1.WaitPort{Port: 65536}}},
		"path":    {Condition: &guestdv1.WaitCondition_File{File: &guestdv1.WaitFile{Path: "relative"}}},
		"url":     {Condition: &guestdv1.WaitCondition_Http{Http: &guestdv1.WaitHttp{Url: "ftp://x"}}},
	} {
		_, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id, Conditions: []*guestdv1.WaitCondition{c}})
		t.Run(name, func(t *testing.T) {
			wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
		})
	}
	for name, c := range map[string]*guestdv1.WaitCondition{
		"exit":     {Condition: &guestdv1.WaitCondition_Exit{}},
		"output":   {Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{}}},
		"own port": {Condition: &guestdv1.WaitCondition_Port{Port: &guestdv1.WaitPort{Port: 1, Own: true}}},
	} {
		_, err := a.Wait(ctx, &guestdv1.WaitRequest{Conditions: []*guestdv1.WaitCondition{c}})
		t.Run(name+" without process", func(t *testing.T) {
			wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
		})
	}
	_, err := a.Wait(ctx, &guestdv1.WaitRequest{Process: p.Id, Timeout: durationpb.New(-1)})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
}

// TestWaitMatchAtDistance finds the match in the middle of much output.
func TestWaitMatchAtDistance(t *testing.T) {
	a := serve(t, Config{})
	spec := script("head -c 200000 /dev/zero; echo needle-7; sleep 300")
	p := a.start(t, spec)
	got, err := a.Wait(testContext(t), &guestdv1.WaitRequest{Process: p.Id, Conditions: []*guestdv1.WaitCondition{{
		Condition: &guestdv1.WaitCondition_Output{Output: &guestdv1.WaitOutput{
			Pattern: `needle-\d`, Stream: guestdv1.OutputStream_OUTPUT_STREAM_STDOUT,
		}},
	}}})
	if err != nil || string(got.Matched) != "needle-7" || got.MatchedOffset != 200000 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestGetInfo(t *testing.T) {
	cid := uint32(7)
	a := serve(t, Config{
		Version: "v9", Features: []string{"ssh"}, Refused: func() uint64 { return 3 },
		VsockCID: func() (uint32, bool) { return cid, cid != 0 },
	})
	ctx := testContext(t)
	info, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if info.Version != "v9" || info.ApiRevision != apiRevision || info.BootId == "" || info.Hostname != host ||
		info.GetVsockCid() != 7 || info.AgentPid != uint32(os.Getpid()) || info.Cpus == 0 || info.MemoryBytes == 0 ||
		info.Uptime.AsDuration() <= 0 || info.KernelRelease == "" || info.Capabilities.Features[0] != "ssh" ||
		info.Capabilities.SwitchUser != (os.Geteuid() == 0) {
		t.Errorf("info %v", info)
	}
	cid = 0
	if info, err = a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{}); err != nil || info.VsockCid != nil {
		t.Errorf("info %v, %v", info, err)
	}

	p := a.start(t, &guestdv1.ProcessSpec{Args: []string{"sleep", "300"}})
	if !strings.HasPrefix(p.Handle, a.server.config.Processes.BootID()+"/") {
		t.Errorf("handle %q", p.Handle)
	}
	if _, err := guestdv1.NewFileServiceClient(a.conn).OpenFile(ctx, &guestdv1.OpenFileRequest{Path: "/etc/passwd", Read: true}); err != nil {
		t.Fatal(err)
	}
	m, err := a.system.GetMetrics(ctx, &guestdv1.GetMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m.ProcessesRunning != 1 || m.ProcessesStartedTotal != 1 || m.Connections != 1 || m.ConnectionsRefusedTotal != 3 || m.FileHandles != 1 ||
		m.Goroutines == 0 || m.OpenFds == 0 || m.ResidentBytes == 0 || m.MemoryAvailableBytes == 0 {
		t.Errorf("metrics %v", m)
	}
}

func TestOSRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(path, []byte("NAME=\"X Y\"\nID=\"alpine\"\nVERSION_ID=3.20\nBROKEN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, version := osRelease("/no/such/file", path); id != "alpine" || version != "3.20" {
		t.Errorf("got %q, %q", id, version)
	}
	if id, version := osRelease("/no/such/file"); id != "" || version != "" {
		t.Errorf("without a file got %q, %q", id, version)
	}
}
