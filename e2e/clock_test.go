//go:build linux

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/microvm"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
	"github.com/guestd/guestd/vsock"
)

const year = 365 * 24 * time.Hour

// TestClock steps the guest's clock by years, as a host does after a snapshot
// was restored or as a guest without a battery does when it learns the time,
// and pauses the guest, with everything under way that waits or counts time.
func TestClock(t *testing.T) {
	vm := ownVM(t, microvm.Config{Memory: 512})
	c := connect(t, vm)
	ongoing := startOngoing(t, vm, c)
	for _, step := range []time.Duration{year, -11 * year} {
		t.Run(fmt.Sprintf("step of %d years", step/year), func(t *testing.T) {
			testClockStep(t, c, step)
			ongoing.check(t)
		})
	}
	t.Run("pause", func(t *testing.T) {
		testPause(t, vm, c)
		ongoing.check(t)
	})
}

// testClockStep steps the clock between the beginning of what has a limit and
// its end.
func testClockStep(t *testing.T, c *client.Client, step time.Duration) {
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	ended, err := c.Start(ctx, client.Spec{Script: "true"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ended.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	limited, err := c.Start(ctx, client.Spec{Args: []string{"sleep", "1000"}, Timeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	short := grantSecret(t, c, limit)
	long := grantSecret(t, c, time.Hour)
	waited := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := guestdv1.NewProcessServiceClient(c.Conn()).Wait(ctx, &guestdv1.WaitRequest{
			Timeout:    durationpb.New(limit),
			Conditions: []*guestdv1.WaitCondition{{Condition: &guestdv1.WaitCondition_File{File: &guestdv1.WaitFile{Path: "/never"}}}},
		})
		waited <- err
	}()

	now := stepClock(t, c, step)

	exit, err := limited.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := exit.Exit.Duration; !exit.Exit.TimedOut || d < limit || d > answerLimit {
		t.Errorf("a process with a limit of %v ended after %v: %v", limit, d, exit.Exit)
	}
	err = <-waited
	// Two clocks measure it: the guest's need not be as fast as this one's.
	if took := time.Since(began); took < limit*9/10 || err == nil {
		t.Errorf("a wait of %v ended after %v: %v", limit, took, err)
	}
	if info, err := ended.Info(ctx); err != nil || info.Running() {
		t.Errorf("the record of a process that ended before: %v", err)
	}
	after, err := c.Info(ctx)
	if grown := after.GetUptime().AsDuration() - before.GetUptime().AsDuration(); err != nil || grown < limit || grown > answerLimit {
		t.Errorf("uptime has grown by %v, %v", grown, err)
	}
	checkGrants(t, c, short, long, now)
	if info, err := c.Files().Stat(ctx, "/tmp/now"); err != nil || info.ModTime().Sub(now).Abs() > answerLimit {
		t.Errorf("a file made after the step: %v", err)
	}
}

// checkGrants checks that of two grants that were made before a step of the
// clock one has expired and the other will at its time, on the clock of now.
func checkGrants(t *testing.T, c *client.Client, short, long string, now time.Time) {
	t.Helper()
	grants, err := c.Grants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range grants {
		switch g.Label {
		case short:
			t.Errorf("a grant has not expired: %+v", g)
		case long:
			if left := g.Expires.Sub(now); left < time.Hour-answerLimit || left > time.Hour+answerLimit || g.Expires.Sub(g.Created) != time.Hour {
				t.Errorf("a grant made at %v expires at %v, it is %v", g.Created, g.Expires, now)
			}
			return
		}
	}
	t.Error("a grant has expired with the clock")
}

// grantSecret makes a grant, and returns the secret, which is its label too.
func grantSecret(t *testing.T, c *client.Client, ttl time.Duration) string {
	t.Helper()
	secret := client.NewSecret()
	if _, err := c.Grant(t.Context(), client.Grant{Secret: secret, Label: secret, TTL: ttl}); err != nil {
		t.Fatal(err)
	}
	return secret
}

// stepClock steps the guest's clock, and returns what it shows then.
func stepClock(t *testing.T, c *client.Client, step time.Duration) time.Time {
	t.Helper()
	script := fmt.Sprintf(`date -s @$(( $(date +%%s) + %d )) >/dev/null && touch /tmp/now && date +%%s`, int64(step/time.Second))
	seconds, err := strconv.ParseInt(sh(t, c, script), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

// testPause pauses the guest in the middle of an upload, whose content is
// compared at its end by the client and the agent themselves.
func testPause(t *testing.T, vm *microvm.VM, c *client.Client) {
	const half, pause = 4 << 20, 3 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	begun := make(chan struct{})
	uploaded := make(chan error, 1)
	go func() {
		content := io.MultiReader(io.LimitReader(zeros{}, half), &signal{begun}, io.LimitReader(zeros{}, half))
		info, err := c.Files().WriteFile(ctx, "/tmp/upload", content, client.WriteOptions{})
		if err == nil && info.Size() != 2*half {
			err = fmt.Errorf("%d bytes have arrived", info.Size())
		}
		uploaded <- err
	}()
	<-begun
	before := uptime(t, c)
	vm.Pause()
	time.Sleep(pause) // its length is what matters
	vm.Resume()
	t.Logf("uptime grew by %v over a pause of %v", uptime(t, c)-before, pause)
	if err := <-uploaded; err != nil {
		t.Error(err)
	}
}

func uptime(t *testing.T, c *client.Client) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return info.GetUptime().AsDuration()
}

// zeros reads as zeros without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// signal is an empty reader that tells when it is read.
type signal struct{ begun chan struct{} }

func (s *signal) Read([]byte) (int, error) {
	close(s.begun)
	return 0, io.EOF
}

// ongoing is what was begun before and has to live through everything.
type ongoing struct {
	numbers *bufio.Reader // of a process that counts
	next    int
	watch   *client.Watch
	client  *client.Client
	files   int
	in      io.Writer // of a cat by SSH
	out     *bufio.Reader
}

func startOngoing(t *testing.T, vm *microvm.VM, c *client.Client) *ongoing {
	t.Helper()
	o := &ongoing{client: c}
	counter := c.Command("/bin/sh", "-c", "i=0; while echo $i; do i=$((i+1)); sleep 0.1; done")
	stdout, err := counter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := counter.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = counter.Wait() // its connection is cut
	})
	o.numbers = bufio.NewReader(stdout)
	sh(t, c, "mkdir /tmp/watched")
	if o.watch, err = c.Files().Watch(ctx, "/tmp/watched", client.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.watch.Close() })
	o.startSSH(t, vm)
	return o
}

func (o *ongoing) startSSH(t *testing.T, vm *microvm.VM) {
	t.Helper()
	addr, err := vsock.ParseAddr(vm.Addr(microvm.PortSSH))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := o.client.DialSSH(t.Context(), func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, addr) }, client.Grant{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	session, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if o.in, err = session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	o.out = bufio.NewReader(out)
	if err := session.Start("cat"); err != nil {
		t.Fatal(err)
	}
}

// check checks that all of it is there and nothing of it was lost.
func (o *ongoing) check(t *testing.T) {
	t.Helper()
	for range 20 {
		line, err := o.numbers.ReadString('\n')
		if err != nil || line != strconv.Itoa(o.next)+"\n" {
			t.Fatalf("the process says %q, want %d: %v", line, o.next, err)
		}
		o.next++
	}
	o.files++
	name := strconv.Itoa(o.files)
	sh(t, o.client, "mkdir /tmp/watched/"+name)
	for seen := false; !seen; {
		event, err := o.watch.Next()
		if err != nil {
			t.Fatalf("watch: %v", err)
		}
		seen = strings.HasSuffix(event.Path, name)
	}
	if _, err := io.WriteString(o.in, name+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := o.out.ReadString('\n'); line != name+"\n" {
		t.Fatalf("over SSH came %q: %v", line, err)
	}
}
