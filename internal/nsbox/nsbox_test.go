//go:build linux

package nsbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// guestdVariable names a guestd that is built already, for the run as an
// ordinary user, who may have no Go.
const guestdVariable = "GUESTD_NSBOX_TEST_GUESTD"

func TestMain(m *testing.M) {
	if IsChild() {
		fmt.Fprintln(os.Stderr, ChildMain())
		os.Exit(1)
	}
	status := m.Run()
	if program, err := guestd(); err == nil && os.Getenv(guestdVariable) == "" {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(status)
}

var guestd = sync.OnceValues(func() (string, error) {
	if program := os.Getenv(guestdVariable); program != "" {
		return program, nil
	}
	dir, err := os.MkdirTemp("", "guestd-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // also the ordinary user runs it
		return "", err
	}
	program := filepath.Join(dir, "guestd")
	build := exec.Command("go", "build", "-o", program, "github.com/guestd/guestd/cmd/guestd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

func startBox(t *testing.T, cfg Config) *Box {
	t.Helper()
	program, err := guestd()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Guestd = program
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := Start(ctx, cfg)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", b.Description(), b.Console())
		}
	})
	return b
}

// connect returns a client of the box's agent.
func connect(t *testing.T, b *Box) *client.Client {
	t.Helper()
	addr, err := vsock.ParseAddr(b.Addr(PortAgent))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, addr) }, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func sh(t *testing.T, c *client.Client, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := c.Command("/bin/sh", "-c", script).CombinedOutput(ctx)
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestBox(t *testing.T) {
	b := startBox(t, Config{Hostname: "box-7"})
	t.Log(b.Description())
	c := connect(t, b)
	expect := func(name, script, want string) {
		t.Run(name, func(t *testing.T) {
			if got := sh(t, c, script); got != want {
				t.Errorf("%s\n got %q\nwant %q", script, got, want)
			}
		})
	}
	expect("hostname", "hostname", "box-7")
	expect("guestd is PID 1 and the agent its child", "cat /proc/1/comm; cut -d' ' -f4 /proc/$PPID/stat", "init\n1")
	expect("user", "id -un", "root")
	expect("network is its own and up", "ls /sys/class/net; cat /proc/net/if_inet6 | cut -c 32-33,52-", "lo\n1 lo")
	expect("programs are read-only", "touch /usr/x 2>/dev/null || touch /bin/x 2>/dev/null || echo refused", "refused")
	expect("no secrets of the host", "ls /etc/shadow /home /boot /var/lib 2>/dev/null; true", "/home:\nann")
	expect("writable", "touch /tmp/x /var/tmp/x /root/x /x /dev/shm/x /run/x && echo yes", "yes")
	expect("devices", "head -c 3 /dev/zero | od -An -tx1; echo lost > /dev/null", "00 00 00")
	expect("terminals", "exec 3<>/dev/ptmx && ls -d /dev/pts/0", "/dev/pts/0")
	expect("the host's mounts are gone", "grep -c -e ' /mnt' -e ' /oldroot' /proc/mounts || true", "0")
	expect("processes are its own", "ls -d /proc/[0-9]* | wc -l | awk '{ print ($1 < 10) }'", "1")
	if b.ids.single() {
		t.Log("one user only: no test as another")
	} else {
		expect("ordinary user", "setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'id -un; touch /home/ann/x /root/x 2>&1 | grep -c denied'", "ann\n1")
	}
	t.Run("stop", func(t *testing.T) { testStop(t, b, c) })
}

// testStop ends the box and expects nothing to stay, not even a process that
// ignores the request.
func testStop(t *testing.T, b *Box, c *client.Client) {
	cmd := c.Command("/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo ready; wait; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d/ns/pid", b.Pid())
	namespace, err := os.Readlink(own)
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(own) // or somebody else's may get its number
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.err != nil {
		t.Errorf("PID 1 ended with %v", b.err)
	}
	if left, _ := filepath.Glob(b.dir + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	others, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range others {
		if ns, err := os.Readlink(link); err == nil && ns == namespace {
			t.Errorf("%s is still in the box", link)
		}
	}
}

// The tests above, as somebody who is not root.
func TestBoxAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user's run already")
	}
	program, err := guestd()
	if err != nil {
		t.Fatal(err)
	}
	// Where an ordinary user can read it; go test's own directory may not be.
	copied := filepath.Join(filepath.Dir(program), "nsbox.test")
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, "-test.v", "-test.run", "^TestBox$|^TestDiesWithItsStarter$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), guestdVariable+"="+program, "TMPDIR=/tmp", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("skipped there")
	}
}

// Nothing of a box outlives the program that started it, however that ends.
func TestDiesWithItsStarter(t *testing.T) {
	if os.Getenv("GUESTD_NSBOX_TEST_STARTER") != "" {
		b := startBox(t, Config{Dir: os.Getenv("GUESTD_NSBOX_TEST_STARTER")})
		fmt.Println("\nstarted", b.Pid())
		time.Sleep(time.Hour)
	}
	startBox(t, Config{}).Kill() // skips where there are none
	program, err := guestd()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestDiesWithItsStarter$")
	cmd.Env = append(os.Environ(), guestdVariable+"="+program, "GUESTD_NSBOX_TEST_STARTER="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for scanned := ""; pid == 0; {
		buffer := make([]byte, 256)
		n, err := out.Read(buffer)
		scanned += string(buffer[:n])
		if _, rest, found := strings.Cut(scanned, "\nstarted "); found && strings.Contains(rest, "\n") {
			if _, err := fmt.Sscan(rest, &pid); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, scanned)
		}
	}
	pidfd, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(time.Minute); pidfd.Signal(syscall.Signal(0)) == nil; time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			_ = pidfd.Kill()
			t.Fatal("PID 1 of the box is still there")
		}
	}
}

func TestStartErrors(t *testing.T) {
	startBox(t, Config{}).Kill() // skips where there are none
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t.Run("no guestd", func(t *testing.T) {
		_, err := Start(ctx, Config{Guestd: "/no/such/guestd"})
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("guestd ends at once", func(t *testing.T) {
		_, err := Start(ctx, Config{Guestd: "/bin/true"})
		if !errors.Is(err, ErrEnded) && !errors.Is(err, ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("nobody listens in time", func(t *testing.T) {
		program, _ := guestd()
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := Start(ctx, Config{Guestd: program}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "guestd-box-*")); left != nil {
		t.Logf("boxes of others, or left behind: %v", left)
	}
}
