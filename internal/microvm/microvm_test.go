//go:build linux

package microvm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootLimit is generous: two emulated processors on a loaded machine.
const bootLimit = 3 * time.Minute

// startGuest boots a guest whose agent is testinit.
func startGuest(t *testing.T, cfg Config) *VM {
	t.Helper()
	requireVM(t)
	if Choose() == KVM {
		t.Skip("these tests speak to a hybrid socket, which vhost-vsock has not")
	}
	cfg.Guestd = buildTestInit(t)
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	vm, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", vm.Console())
		}
	})
	return vm
}

func requireVM(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a microVM")
	}
	if err := Available(); err != nil {
		t.Skip(err)
	}
}

var testInit = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "testinit-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "testinit")
	build := exec.Command("go", "build", "-o", program, "./testinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

func buildTestInit(t *testing.T) string {
	t.Helper()
	program, err := testInit()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestMain(m *testing.M) {
	status := m.Run()
	if program, err := testInit(); err == nil {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(status)
}

// connect opens a connection to the agent's port and sends one line.
func connect(vm *VM, line string) (net.Conn, error) {
	conn, err := net.Dial("unix", vm.hybrid)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "CONNECT %d\n", PortAgent)
	reply := make([]byte, 0, 16)
	for one := make([]byte, 1); len(reply) == 0 || reply[len(reply)-1] != '\n'; reply = append(reply, one[0]) {
		if _, err := conn.Read(one); err != nil {
			conn.Close()
			return nil, fmt.Errorf("CONNECT: %w", err)
		}
	}
	fmt.Fprintln(conn, line)
	return conn, nil
}

func mustConnect(t *testing.T, vm *VM, line string) net.Conn {
	t.Helper()
	conn, err := connect(vm, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// request sends one command and returns all of its answer.
func request(vm *VM, line string) (string, error) {
	conn, err := connect(vm, line)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	answer, err := io.ReadAll(conn)
	return strings.TrimSpace(string(answer)), err
}

func ask(t *testing.T, vm *VM, line string) string {
	t.Helper()
	answer, err := request(vm, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return answer
}

func TestGuest(t *testing.T) {
	vm := startGuest(t, Config{Modules: []string{"vsock_loopback!"}, Cmdline: "guestd.hostname=box-7 guestd.future=1"})
	t.Logf("how: %s", vm.AccelDescription())

	t.Run("mounts", func(t *testing.T) {
		mounts := ask(t, vm, "sh cat /proc/mounts")
		for _, want := range []string{
			"/proc proc", "/sys sysfs", "/dev devtmpfs", "/dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666",
			"/dev/shm tmpfs", "/run tmpfs", "/tmp tmpfs", "/sys/fs/cgroup cgroup2",
		} {
			if !strings.Contains(mounts, " "+want) {
				t.Errorf("%q is missing in\n%s", want, mounts)
			}
		}
	})
	expect := func(name, command, want string) {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, vm, "sh "+command); got != want {
				t.Errorf("%s\n got %q\nwant %q", command, got, want)
			}
		})
	}
	expect("links", "for l in fd stdin; do readlink /dev/$l; done", "/proc/self/fd\n/proc/self/fd/0")
	expect("hostname", "hostname", "box-7")
	expect("loopback", "ping -c 1 127.0.0.1 >/dev/null && ip -o link show lo | grep -c ,UP", "1")
	expect("loopback over IPv6", "ping -c 1 ::1 >/dev/null && echo up", "up")
	expect("modules", "ls -d /sys/module/vsock_loopback /sys/module/vmw_vsock_virtio_transport",
		"/sys/module/vmw_vsock_virtio_transport\n/sys/module/vsock_loopback")
	expect("PATH", "echo $PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	expect("agent is protected", "cat /proc/$PPID/oom_score_adj", "-1000")
	expect("agent's session is its own", "cut -d' ' -f6 /proc/$PPID/stat; echo $PPID", pidTwice(ask(t, vm, "pid")))
	expect("PID 1's cgroup", "cat /proc/1/cgroup", "0::/init")
	expect("agent's cgroup", "cat /proc/$PPID/cgroup", "0::/guestd")
	expect("users", "id ann", "uid=1000(ann) gid=1000(ann) groups=1000(ann),50(staff)")
	expect("home", "stat -c '%U %a' /home/ann /root /tmp", "ann 755\nroot 700\nroot 1777")
	expect("ordinary user opens a PTY", "su ann -c 'exec 3<>/dev/ptmx && stat -c \"%a %G %U\" /dev/pts/0'", "620 tty ann")
	expect("bash", "bash -c 'a=(x y); echo ${a[1]}'", "y")
	expect("unknown parameters are reported", "dmesg | grep -c 'guestd: .*guestd.future=1'", "1")
	expect("no step failed", "dmesg | grep 'boot step failed'", "exit status 1")
	expect("controllers reach the workload",
		"cd /sys/fs/cgroup/workload && mkdir x && for c in cpu memory pids io; do grep -qw $c x/cgroup.controllers && echo $c; done; rmdir x",
		"cpu\nmemory\npids\nio")
	t.Run("the host is the peer", func(t *testing.T) {
		if got := ask(t, vm, "peer"); !strings.HasPrefix(got, "host(2):") {
			t.Errorf("peer %s", got)
		}
	})
	t.Run("traffic", func(t *testing.T) { testTraffic(t, vm) })
	t.Run("guest dials the host", func(t *testing.T) { testGuestDial(t, vm) })
	t.Run("agent is restarted", func(t *testing.T) { testRestart(t, vm) })
	t.Run("orphans are reaped", func(t *testing.T) {
		ask(t, vm, "sh for i in 1 2 3 4 5 6 7 8; do (true & exec true) & done; wait")
		wait(t, "no zombies", func() bool {
			return ask(t, vm, "sh cat /proc/[0-9]*/stat | grep -c ') Z '") == "0\nexit status 1"
		})
	})
	t.Run("power off", func(t *testing.T) { testEnd(t, vm, "poweroff") })
}

// pidTwice is what the session test expects: the agent leads its session.
func pidTwice(pids string) string {
	pid, _, _ := strings.Cut(pids, " ")
	return pid + "\n" + pid
}

// wait polls a condition that is bound to come.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := poll(ctx, func(context.Context) (bool, error) { return done(), nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// testTraffic sends 8 MiB each way at once. No more than a window of it is
// under way: vhost-device-vsock 0.3.0 looks for room to write only while it has
// nothing to read, so a connection whose buffers are full in both directions,
// beyond a guest that stops reading while it writes, never moves again.
func testTraffic(t *testing.T, vm *VM) {
	conn := mustConnect(t, vm, "echo")
	const (
		size   = 8 << 20
		window = 64 << 10
	)
	sent, received := sha256.New(), sha256.New()
	room := make(chan struct{}, window/(4<<10)) // a token for each chunk under way
	done := make(chan error, 1)
	go func() {
		chunk := make([]byte, 4<<10)
		for n := 0; n < size; n += len(chunk) {
			for i := range chunk {
				chunk[i] = byte(n>>12 + i*7)
			}
			sent.Write(chunk)
			select {
			case room <- struct{}{}:
			case <-t.Context().Done():
				return
			}
			if _, err := conn.Write(chunk); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	r := bufio.NewReaderSize(conn, window)
	for n := 0; n < size; n += 4 << 10 {
		if _, err := io.CopyN(received, r, 4<<10); err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		<-room
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := received.Sum(nil), sent.Sum(nil); string(got) != string(want) {
		t.Errorf("sum %x, want %x", got, want)
	}
}

func testGuestDial(t *testing.T, vm *VM) {
	if vm.GuestDialPath(1) == "" {
		t.Skip("the kernel's vhost-vsock")
	}
	l, err := net.Listen("unix", vm.GuestDialPath(777))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answer := mustConnect(t, vm, "dial 777")
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "hello from the guest\n" {
		t.Errorf("got %q, %v", line, err)
	}
	fmt.Fprint(conn, "hello from the host")
	conn.Close()
	if got, err := io.ReadAll(answer); err != nil || string(got) != "hello from the host" {
		t.Errorf("the guest got %q, %v", got, err)
	}
}

func testRestart(t *testing.T, vm *VM) {
	before := ask(t, vm, "pid")
	_, _ = request(vm, "crash") // how the connection ends is the kernel's matter
	wait(t, "another agent", func() bool {
		after, err := request(vm, "pid")
		return err == nil && after != before && strings.HasSuffix(after, " 1")
	})
	if got := ask(t, vm, "sh cat /proc/$PPID/cgroup"); got != "0::/guestd" {
		t.Errorf("cgroup of the new agent: %s", got)
	}
}

// testEnd asks the agent for the end and expects QEMU to go, orderly and
// without leaving anything.
func testEnd(t *testing.T, vm *VM, how string) {
	if _, err := request(vm, "end "+how); err != nil {
		t.Logf("the end overtook the answer: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	if err := vm.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(vm.Console(), "Kernel panic") {
		t.Error("the kernel panicked")
	}
	if _, err := os.Stat(vm.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", vm.dir, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", vm.Pid())); err == nil {
		t.Errorf("QEMU is still there")
	}
}

func TestReboot(t *testing.T) {
	testEnd(t, startGuest(t, Config{CPUs: 1, Memory: 256}), "reboot")
}

func TestStop(t *testing.T) {
	dir := t.TempDir()
	vm := startGuest(t, Config{CPUs: 1, Memory: 256, Dir: dir})
	if err := vm.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "console.log" {
		t.Errorf("left behind: %v, %v", left, err)
	}
	vm.Kill() // once more does no harm
}

// A guest that dies while booting is reported at once, with its last words.
func TestStartFails(t *testing.T) {
	requireVM(t)
	bad := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\necho last words\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	vm, err := Start(ctx, Config{Guestd: bad, CPUs: 1, Memory: 256})
	if err == nil {
		vm.Kill()
		t.Fatal("a guest whose init exits has started")
	}
	if !errors.Is(err, ErrGuestEnded) || !strings.Contains(err.Error(), "last words") {
		t.Errorf("error %v", err)
	}
}
