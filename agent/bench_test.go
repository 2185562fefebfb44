//go:build linux

package agent

import (
	"errors"
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// BenchmarkExecTrue runs true by os/exec and over the wire, in turns, and
// reports the ratio of the medians (goal P1 of the performance notes).
func BenchmarkExecTrue(b *testing.B) {
	a := serve(b, Config{})
	conn := a.dial(b, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())))
	defer func() { _ = conn.Close() }()
	client := guestdv1.NewProcessServiceClient(conn)
	path, err := exec.LookPath("true")
	if err != nil {
		b.Skip("SKIP: no program true")
	}
	var local, remote []float64
	for b.Loop() {
		began := time.Now()
		if err := exec.Command(path).Run(); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		execTrue(b, client, path)
		local = append(local, float64(between.Sub(began).Microseconds()))
		remote = append(remote, float64(time.Since(between).Microseconds()))
	}
	b.ReportMetric(middle(local), "os/exec-µs")
	b.ReportMetric(middle(remote), "exec-µs")
	b.ReportMetric(middle(remote)/middle(local), "ratio")
}

// middle is the median.
func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func execTrue(b *testing.B, client guestdv1.ProcessServiceClient, path string) {
	stream, err := client.Exec(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(startRequest(&guestdv1.ProcessSpec{Args: []string{path}})); err != nil {
		b.Fatal(err)
	}
	exited := false
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		exited = exited || resp.GetExit() != nil
	}
	if !exited {
		b.Fatal("no exit")
	}
}

// BenchmarkUnary is the cost of a call that does nothing.
func BenchmarkUnary(b *testing.B) {
	a := serve(b, Config{})
	for b.Loop() {
		if _, err := a.system.GetInfo(b.Context(), &guestdv1.GetInfoRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
