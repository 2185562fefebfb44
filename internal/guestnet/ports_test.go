//go:build linux

package guestnet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/guestnet"
	"golang.org/x/sys/unix"
)

func newPorts(t *testing.T) *guestnet.Ports {
	t.Helper()
	p := guestnet.NewPorts()
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// find returns the port of list that is bound to addr.
func find(list []guestnet.Port, network string, addr netip.AddrPort) (guestnet.Port, bool) {
	i := slices.IndexFunc(list, func(p guestnet.Port) bool { return p.Network == network && p.Addr == addr })
	if i < 0 {
		return guestnet.Port{}, false
	}
	return list[i], true
}

func TestList(t *testing.T) {
	tcp := listen(t, guestnet.ListenSpec{Network: "tcp4", Address: "127.0.0.1:0"})
	every := listen(t, guestnet.ListenSpec{Network: "tcp", Address: ":0"})
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	var d guestnet.Dialer
	connected, err := d.DialContext(testContext(t), "udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	everyNet := "tcp6"
	if addrOf(every.Addr()).Addr().Is4() {
		everyNet = "tcp"
	}
	ports := newPorts(t)
	for _, way := range []string{"sock_diag", "/proc/net"} {
		list, err := ports.List(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for network, addr := range map[string]netip.AddrPort{"tcp": addrOf(tcp.Addr()), everyNet: addrOf(every.Addr()), "udp": addrOf(udp.LocalAddr())} {
			p, ok := find(list, network, addr)
			if !ok || p.PID != os.Getpid() || p.UID != uint32(os.Geteuid()) || p.Name == "" {
				t.Errorf("%s: %s %v: %+v, %v", way, network, addr, p, ok)
			}
		}
		if p, ok := find(list, "udp", addrOf(connected.LocalAddr())); ok {
			t.Errorf("%s: what is connected is told: %+v", way, p)
		}
		ports.WithoutDiag()
	}
}

func TestBothWaysAgree(t *testing.T) {
	_ = listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
	same := func() bool {
		diag, proc, err := guestnet.Dumps()
		if err != nil {
			t.Skipf("SKIP: sock_diag: %v", err)
		}
		order := func(a, b guestnet.Port) int { return a.Addr.Compare(b.Addr) }
		for i := range diag {
			slices.SortFunc(diag[i], order)
			slices.SortFunc(proc[i], order)
			if !slices.Equal(diag[i], proc[i]) {
				return false
			}
		}
		return true
	}
	// Others on the machine open and close ports meanwhile.
	for end := time.Now().Add(deadline); !same(); {
		if time.Now().After(end) {
			t.Fatal("sock_diag and /proc/net never agree")
		}
	}
}

// The process that is told is the oldest that has the socket open, and the
// next one when that has ended.
func TestOwnerChanges(t *testing.T) {
	l := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
	addr := addrOf(l.Addr())
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = []*os.File{file}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	first := start()
	ports := newPorts(t)
	watch, err := ports.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close() }()
	awaitOwner := func(pid int) {
		t.Helper()
		for {
			change, err := watch.Next(testContext(t))
			if err != nil {
				t.Fatalf("waiting for pid %d: %v", pid, err)
			}
			if p, ok := find(change.Opened, "tcp", addr); ok && p.PID == pid {
				return
			}
		}
	}
	awaitOwner(os.Getpid())
	l.Close()
	_ = file.Close()
	// This process lives on, but a list looks anew.
	list, err := ports.List(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := find(list, "tcp", addr); !ok || p.PID != first.Process.Pid || p.Name != "sleep" {
		t.Errorf("%+v, %v", p, ok)
	}
	awaitOwner(first.Process.Pid)
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		change, err := watch.Next(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := find(change.Closed, "tcp", addr); ok {
			return
		}
	}
}

// A socket that nobody has open, as when its process is just ending, stays that
// process's for some looks, is nobody's then, and belongs to who takes it.
func TestOwnerMissing(t *testing.T) {
	l := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The kernel holds the socket while it is on its way.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(file.Fd())), nil, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(l.Addr())
	l.Close()
	_ = file.Close()
	ports := newPorts(t)
	wantOwner := func(pid int) {
		t.Helper()
		list, err := ports.List(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := find(list, "tcp", addr); !ok || p.PID != pid {
			t.Errorf("%+v, %v; want pid %d", p, ok, pid)
		}
	}
	wantOwner(cmd.Process.Pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	wantOwner(cmd.Process.Pid)
	wantOwner(cmd.Process.Pid)
	wantOwner(0)
	rights := make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := unix.Recvmsg(pair[1], make([]byte, 1), rights, unix.MSG_CMSG_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	wantOwner(os.Getpid())
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range append(fds, pair[0], pair[1]) {
		_ = unix.Close(fd)
	}
}

func TestWatch(t *testing.T) {
	for _, diag := range []bool{true, false} {
		ports := newPorts(t)
		if !diag {
			ports.WithoutDiag()
		}
		before := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
		watch, err := ports.Watch()
		if err != nil {
			t.Fatal(err)
		}
		change, err := watch.Next(testContext(t))
		if _, ok := find(change.Opened, "tcp", addrOf(before.Addr())); err != nil || !ok || len(change.Closed) > 0 {
			t.Errorf("at first: %+v, %v", change, err)
		}
		await := func(what func(guestnet.Change) []guestnet.Port, addr netip.AddrPort) {
			t.Helper()
			for {
				change, err := watch.Next(testContext(t))
				if err != nil {
					t.Fatalf("waiting for %v: %v", addr, err)
				}
				if p, ok := find(what(change), "tcp", addr); ok {
					if p.PID != os.Getpid() {
						t.Errorf("%+v", p)
					}
					return
				}
			}
		}
		l := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
		await(func(c guestnet.Change) []guestnet.Port { return c.Opened }, addrOf(l.Addr()))

		// One who comes later sees what there is.
		second, err := ports.Watch()
		if err != nil {
			t.Fatal(err)
		}
		if change, err := second.Next(testContext(t)); err != nil || len(change.Opened) < 2 {
			t.Errorf("the second: %+v, %v", change, err)
		}
		_ = second.Close()
		_ = second.Close()

		l.Close()
		await(func(c guestnet.Change) []guestnet.Port { return c.Closed }, addrOf(l.Addr()))
		before.Close()
		await(func(c guestnet.Change) []guestnet.Port { return c.Closed }, addrOf(before.Addr()))
		if err := ports.Close(); err != nil {
			t.Error(err)
		}
		if _, err := watch.Next(testContext(t)); !errors.Is(err, guestnet.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := ports.Watch(); !errors.Is(err, guestnet.ErrClosed) {
			t.Errorf("watch what is closed: %v", err)
		}
		_ = watch.Close()
	}
}

// Nobody looks where nobody watches, and watches are bounded.
func TestWatchesEnd(t *testing.T) {
	ports := newPorts(t)
	var watches []*guestnet.PortWatch
	for {
		w, err := ports.Watch()
		if errors.Is(err, guestnet.ErrTooManyWatches) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, w)
	}
	for _, w := range watches {
		if _, err := w.Next(testContext(t)); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
	}
	// Again, now that there is room.
	w, err := ports.Watch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(testContext(t)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
}

// What watching costs, with 100 ports and nothing going on but what the machine
// does. Processor time does not depend on how busy that is. The first looks live
// on savings, of 50 ms.
func TestWatchBudget(t *testing.T) {
	for range 100 {
		_ = listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
	}
	ports := newPorts(t)
	watch, err := ports.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close() }()
	if _, err := watch.Next(testContext(t)); err != nil {
		t.Fatal(err)
	}
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began, before, from := time.Now(), used(), ports.Looks()
	for ports.Looks() < from+20 {
		// Where looks are dear they are 5 s apart.
		if time.Since(began) > 5*deadline {
			t.Fatalf("%d looks in %v", ports.Looks()-from, time.Since(began))
		}
		time.Sleep(500 * time.Millisecond) // a measurement of what happens meanwhile
	}
	cost, wall := used()-before, time.Since(began)
	share := 100 * float64(cost) / float64(wall)
	t.Logf("%.2f %% of a core: %v per look, %v apart", share, cost/20, wall/20)
	if limit := 50*time.Millisecond + raceFactor*wall/200; cost > limit {
		t.Errorf("watching for %v takes %v, more than %v", wall, cost, limit)
	}
}

// Want of descriptors is an error for as long as it lasts, and not the end of
// the cheap way to ask.
func TestPortsWithoutDescriptors(t *testing.T) {
	ports := newPorts(t)
	if _, err := ports.List(testContext(t)); err != nil || !ports.UsesDiag() {
		t.Skip("SKIP: no sock_diag here")
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err := ports.List(testContext(t))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) || !ports.UsesDiag() {
		t.Errorf("without descriptors: %v; sock_diag is used: %v", err, ports.UsesDiag())
	}
	if _, err := ports.List(testContext(t)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
