//go:build linux

package agent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

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
