//go:build linux

package agent

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

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
