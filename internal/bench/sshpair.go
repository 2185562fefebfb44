//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/client"
)

// connectCommand is how ssh has this program connect it to a unix socket: by
// handing the descriptor over, so that no copying stands between client and
// server.
const connectCommand = "connect"

// connectTo connects to the unix socket args[0] and passes the connection on,
// for ssh's ProxyUseFdpass.
func connectTo(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: connect SOCKET")
	}
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	return unix.Sendmsg(1, []byte{0}, unix.UnixRights(int(file.Fd())), nil, 0)
}

// errNoSSH: this machine lacks OpenSSH's client or server.
var errNoSSH = errors.New("no OpenSSH client and server")

// sshPair is guestd's SSH server and OpenSSH's, each behind a unix socket, and
// what clients need for both.
type sshPair struct {
	agent *agent
	ours  string // socket
	stock string // socket

	dir      string
	key      ssh.Signer
	listener net.Listener // of the stock one
	sshd     string
	serving  sync.WaitGroup
	sshds    sync.WaitGroup // the processes of the stock one
	stockCPU atomic.Int64   // of those that have ended, in nanoseconds
}

// startSSHPair starts both. The caller calls stop.
func (b *bench) startSSHPair(ctx context.Context) (*sshPair, error) {
	sshd, err := findSSHD()
	if err != nil {
		return nil, err
	}
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	p := &sshPair{agent: a, ours: a.ssh, stock: filepath.Join(a.dir, "stock"), dir: a.dir, sshd: sshd}
	if err := p.start(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func findSSHD() (string, error) {
	if _, err := exec.LookPath("ssh"); err != nil || os.Geteuid() != 0 {
		return "", errNoSSH
	}
	for _, path := range []string{".tools/sshd/sshd", "/usr/sbin/sshd"} {
		if path, err := filepath.Abs(path); err == nil {
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", errNoSSH
}

func (p *sshPair) start(ctx context.Context) error {
	public, err := p.makeKey("key")
	if err != nil {
		return err
	}
	if _, err := p.makeKey("host_key"); err != nil {
		return err
	}
	// The start-up files of whoever runs this are kept out of both.
	home := "HOME=" + p.dir
	if _, err := p.agent.Grant(ctx, client.Grant{Key: public, User: "root", TTL: -1, MaxConnections: -1, Env: []string{home}}); err != nil {
		return err
	}
	config := fmt.Sprintf("HostKey %[1]s/host_key\nAuthorizedKeysFile %[1]s/key.pub\nStrictModes no\nPermitRootLogin yes\n"+
		"UsePAM no\nPidFile none\nLogLevel QUIET\nPrintMotd no\nPrintLastLog no\nMaxSessions 1000\nSetEnv %[2]s\n"+
		"Subsystem sftp /usr/lib/openssh/sftp-server\n", p.dir, home)
	if err := os.WriteFile(p.path("sshd_config"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where Debian's sshd locks itself up
		return err
	}
	if p.listener, err = net.Listen("unix", p.stock); err != nil {
		return err
	}
	p.serving.Go(p.serveStock)
	return nil
}

func (p *sshPair) path(name string) string { return filepath.Join(p.dir, name) }

// makeKey writes a new key pair as ssh-keygen does. The one of name "key" is
// the clients'.
func (p *sshPair) makeKey(name string) (ssh.PublicKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	if name == "key" {
		p.key = signer
	}
	return signer.PublicKey(), errors.Join(
		os.WriteFile(p.path(name), pem.EncodeToMemory(block), 0o600),
		os.WriteFile(p.path(name+".pub"), ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600))
}

// serveStock gives each connection an `sshd -i` of its own, on the socket
// itself.
func (p *sshPair) serveStock() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.sshds.Go(func() {
			file, err := conn.(*net.UnixConn).File()
			conn.Close()
			if err != nil {
				return
			}
			cmd := exec.Command(p.sshd, "-i", "-f", p.path("sshd_config"))
			cmd.Stdin, cmd.Stdout = file, file
			err = cmd.Start()
			file.Close()
			if err == nil {
				_ = cmd.Wait() // its status is the client's affair
				p.stockCPU.Add(int64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()))
			}
		})
	}
}

func (p *sshPair) stop() {
	if p.listener != nil {
		p.listener.Close()
	}
	p.serving.Wait()
	p.sshds.Wait() // the clients have ended
	p.agent.stop()
}

// cpu is the processor time that both servers have taken so far, with what they
// ran for their clients, all of whom have ended.
func (p *sshPair) cpu() (ours, stock time.Duration, err error) {
	p.sshds.Wait()
	ours, err = cpuTime(p.agent.pid())
	return ours, time.Duration(p.stockCPU.Load()), err
}

// client is a stock client of one of the sockets: "ssh" or "sftp".
func (p *sshPair) client(ctx context.Context, program, socket string, args ...string) *exec.Cmd {
	options := []string{
		"-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "User=root",
		"-o", "IdentityFile=" + p.path("key"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "ProxyUseFdpass=yes", "-o", "ProxyCommand=/proc/" + fmt.Sprint(os.Getpid()) + "/exe " + connectCommand + " " + socket,
	}
	return exec.CommandContext(ctx, program, append(options, args...)...)
}

// dial connects Go's client.
func (p *sshPair) dial(socket string) (*ssh.Client, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, "guest", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(p.key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // both servers are ours
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}
