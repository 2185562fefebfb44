//go:build linux

package sshd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// answerSum is a listener that is served by serveSums.
func answerSum(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go serveSums(l)
	return l
}

// serveSums answers each connection with the sum of all that it sends before it
// ends its direction.
func serveSums(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			sum := sha256.New()
			n, _ := io.Copy(sum, c)
			fmt.Fprintf(c, "%d %x", n, sum.Sum(nil))
		}()
	}
}

// askSum sends data, ends its direction, and checks what comes back.
func askSum(t *testing.T, c io.ReadWriter, data []byte) {
	t.Helper()
	go func() {
		_, _ = c.Write(data)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if want := fmt.Sprintf("%d %x", len(data), sumOf(data)); err != nil || string(got) != want {
		t.Errorf("got %.80q, %v; want %s", got, err, want)
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*13 + i>>8 + i>>17)
	}
	return data
}

func TestForwardLocal(t *testing.T) {
	l := newLab(t)
	tcp := answerSum(t, "tcp", "127.0.0.1:0").Addr().String()
	unix := filepath.Join(l.dir, "sum.sock")
	answerSum(t, "unix", unix)
	c := l.dial(access.Grant{})
	for _, target := range [][2]string{{"tcp", tcp}, {"tcp", strings.Replace(tcp, "127.0.0.1", "localhost", 1)}, {"unix", unix}} {
		for _, size := range []int{0, 1, 3 << 20} {
			other, err := c.Dial(target[0], target[1])
			if err != nil {
				t.Fatalf("%v: %v", target, err)
			}
			askSum(t, other, noise(size))
			_ = other.Close()
		}
	}
	_ = c.Close()
	l.quiet()
}

// The end of what the guest sends leaves the other direction open.
func TestForwardGuestEndsFirst(t *testing.T) {
	l := newLab(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got := make(chan string, 1)
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "first")
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	c := l.dial(access.Grant{})
	other, err := c.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(other); string(b) != "first" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	_, _ = io.WriteString(other, "second")
	_ = other.Close() // EOF and CLOSE at once: what came before must arrive
	if b := <-got; b != "second" {
		t.Errorf("the guest got %q", b)
	}
}

// A connection that the guest has broken off ends its channel as soon as the
// client's data show it, as with OpenSSH: it would be sent into the void for
// ever.
func TestForwardGuestBreaksOff(t *testing.T) {
	l := newLab(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := l.dial(access.Grant{})
	other, err := c.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	inGuest, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = inGuest.(*net.TCPConn).SetLinger(0)
	_ = inGuest.Close()
	if b, err := io.ReadAll(other); len(b) != 0 || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	var werr error
	for deadline := time.Now().Add(patience); werr == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, werr = io.WriteString(other, "anybody?")
	}
	if werr == nil {
		t.Error("data for nobody is still taken")
	}
	_ = c.Close()
	l.quiet()
}

func TestForwardFails(t *testing.T) {
	l := newLab(t)
	permits := access.Everything()
	permits.LocalTCP.Targets = []string{"localhost:*"}
	permits.LocalUnix.Allowed = false
	permits.RemoteTCP.Targets = []string{"localhost:0"}
	permits.RemoteUnix.Allowed = false
	limited := l.dial(access.Grant{Permissions: &permits})
	free := l.dial(access.Grant{})
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(unused.Addr().(*net.TCPAddr).Port)
	_ = unused.Close()
	for _, c := range []struct {
		client          *ssh.Client
		network, target string
		reason          ssh.RejectionReason
		message         string
	}{
		{free, "tcp", "127.0.0.1:" + port, ssh.ConnectionFailed, "Connection refused"},
		{free, "tcp", "no.such.host.invalid:80", ssh.ConnectionFailed, ""},
		{free, "unix", filepath.Join(l.dir, "none"), ssh.ConnectionFailed, "No such file or directory"},
		{free, "unix", l.dir, ssh.ConnectionFailed, ""},
		{limited, "tcp", "127.0.0.1:" + port, ssh.Prohibited, reasonNotPermitted},
		{limited, "unix", l.socket, ssh.Prohibited, reasonNotPermitted},
	} {
		_, err := c.client.Dial(c.network, c.target)
		var open *ssh.OpenChannelError
		if !errors.As(err, &open) || open.Reason != c.reason || c.message != "" && open.Message != c.message {
			t.Errorf("%s: %v", c.target, err)
		}
	}
	if _, err := limited.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a listener that is not permitted")
	}
	if _, err := limited.ListenUnix(filepath.Join(l.dir, "x")); err == nil {
		t.Error("a socket that is not permitted")
	}
	busy := answerSum(t, "tcp", "127.0.0.1:0")
	if _, err := free.Listen("tcp", busy.Addr().String()); err == nil {
		t.Error("an address that is in use")
	}
}

// A listener in the guest brings what it accepts to the client, until it is
// canceled.
func TestForwardRemote(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	socket := filepath.Join(l.dir, "remote.sock")
	tcp, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unix, err := c.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	for _, listener := range []net.Listener{tcp, unix} {
		go serveSums(listener)
		address := listener.Addr().String()
		if listener == unix {
			address = socket
		}
		for _, size := range []int{0, 1, 3 << 20} {
			other, err := net.Dial(listener.Addr().Network(), address)
			if err != nil {
				t.Fatal(err)
			}
			askSum(t, other.(io.ReadWriter), noise(size))
			_ = other.Close()
		}
	}
	if err := tcp.Close(); err != nil {
		t.Errorf("cancel: %v", err)
	}
	eventually(t, "the port is closed", func() bool {
		other, err := net.Dial("tcp", tcp.Addr().String())
		if err == nil {
			_ = other.Close()
		}
		return err != nil
	})
	_ = c.Close()
	l.quiet()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

// The end of the connection ends what it carries, in both directions.
func TestForwardCut(t *testing.T) {
	l := newLab(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := l.dial(access.Grant{})
	remote, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dial("tcp", server.Addr().String()); err != nil {
		t.Fatal(err)
	}
	inGuest, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	toClient, err := net.Dial("tcp", remote.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for _, end := range []net.Conn{inGuest, toClient} {
		if _, err := io.ReadAll(end); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = end.Close()
	}
	l.quiet()
}

// The real client's -L, -D and -R.
func TestForwardOpenSSH(t *testing.T) {
	l := newLab(t)
	web := filepath.Join(l.dir, "web.sock")
	answerSum(t, "unix", web)
	back := filepath.Join(l.dir, "back.sock")
	local, remote := filepath.Join(l.dir, "local.sock"), filepath.Join(l.dir, "r.sock")
	answerSum(t, "unix", back)
	cmd := l.ssh(access.Grant{}, "-N", "-o", "ExitOnForwardFailure=yes", "-L", local+":"+web, "-R", remote+":"+back, "-R", "0:"+back)
	var log syncBuffer
	cmd.Stderr = &log
	defer func() {
		if t.Failed() {
			t.Logf("the client said %s", log.String())
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{local, remote} {
		other := dialSoon(t, path)
		askSum(t, other, noise(100_000))
		_ = other.Close()
	}
	eventually(t, "the client tells the port of -R 0", func() bool { return strings.Contains(log.String(), "Allocated port") })
	interrupt(cmd)
	l.quiet()

	target := answerSum(t, "tcp", "127.0.0.1:0").Addr().String()
	cmd = l.ssh(access.Grant{}, "-W", target)
	cmd.Stdin = strings.NewReader("abc")
	if got := run(t, cmd); got.stdout != fmt.Sprintf("3 %x", sumOf([]byte("abc"))) {
		t.Errorf("-W: %+v", got)
	}
	l.quiet()
}

// A program in the guest speaks to the client's agent, while its session lasts.
func TestForwardAgent(t *testing.T) {
	l := newLab(t)
	if _, err := exec.LookPath("ssh-agent"); err != nil {
		t.Skip("no ssh-agent: apt-get install openssh-client")
	}
	_, key := l.newKey()
	own := filepath.Join(l.dir, "own-agent")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	agent := exec.CommandContext(ctx, "ssh-agent", "-D", "-a", own)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = agent.Wait() }()
	_ = dialSoon(t, own).Close()
	add := exec.Command("ssh-add", "-q", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+own)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := `ssh-add -l >/dev/null && stat -c '%a %U' $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK); echo $SSH_AUTH_SOCK`
	withAgent := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Args[slices.Index(cmd.Args, "IdentityAgent=none")] = "IdentityAgent=" + own
		return cmd
	}
	got := run(t, withAgent(l.ssh(access.Grant{}, "-A", script)))
	user := me(t).Username
	lines := strings.Split(got.stdout, "\n")
	if len(lines) != 4 || lines[0] != "600 "+user || lines[1] != "700 "+user {
		t.Fatalf("got %+v", got)
	}
	l.quiet()
	if _, err := os.Stat(filepath.Dir(lines[2])); err == nil {
		t.Error("the socket's directory is still there")
	}
	permits := access.Everything()
	permits.Agent = false
	cmd := withAgent(l.ssh(access.Grant{Permissions: &permits}, "-A", "echo $SSH_AUTH_SOCK"))
	if got := run(t, cmd); got.stdout != "\n" {
		t.Errorf("not permitted: %+v", got)
	}
}

// What a client prints after "open failed: connect failed: ".
func TestDescribeNetError(t *testing.T) {
	dns := &net.DNSError{Err: "no such host", Name: "web.invalid", Server: "192.0.2.53:53", IsNotFound: true}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "Connection refused"},
		{&net.OpError{Op: "dial", Err: dns}, "No such host"},
		{&net.OpError{Op: "dial", Err: errors.New("what")}, "What"},
		{errors.New(""), "failed"},
	} {
		if got := describeNetError(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
