//go:build linux

// Package accesstest is an SSH server for the tests of those who talk to one:
// small, without terminals or forwards, but one that asks package access for
// everything that it decides.
package accesstest

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A Door is a running server.
type Door struct {
	store    *access.Store
	listener net.Listener
	signer   ssh.Signer
	conns    sync.WaitGroup
}

// Open serves on l until Close.
func Open(l net.Listener, store *access.Store) (*Door, error) {
	signer, err := ssh.NewSignerFromKey(store.HostKey())
	if err != nil {
		return nil, err
	}
	d := &Door{store: store, listener: l, signer: signer}
	d.conns.Go(d.accept)
	return d, nil
}

// Close closes the listener, ends every connection and waits for them. It
// closes the store.
func (d *Door) Close() error {
	err := errors.Join(d.listener.Close(), d.store.Close())
	d.conns.Wait()
	return err
}

func (d *Door) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.conns.Go(func() { d.serve(conn) })
	}
}

// serve serves one connection to its end.
func (d *Door) serve(conn net.Conn) {
	defer conn.Close()
	account, err := d.store.Connect("test")
	if err != nil {
		return
	}
	defer func() { _ = account.Close() }()
	ended := make(chan struct{})
	defer close(ended)
	d.conns.Go(func() {
		select {
		case <-account.Context().Done():
			conn.Close()
		case <-ended:
		}
	})
	transport, channels, requests, err := ssh.NewServerConn(conn, d.config(account))
	if err != nil {
		account.Refused(err)
		return
	}
	defer func() { _ = transport.Close() }()
	d.conns.Go(func() { ssh.DiscardRequests(requests) })
	var sessions sync.WaitGroup
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			break
		}
		sessions.Go(func() { serveSession(account, channel, requests) })
	}
	sessions.Wait()
}

// config asks the store about everybody.
func (d *Door) config(account *access.Connection) *ssh.ServerConfig {
	// told is an error that its holder may hear of.
	told := func(err error) error {
		if err == nil || errors.Is(err, access.ErrUnknown) {
			return err
		}
		return &ssh.BannerError{Err: err, Message: err.Error() + "\r\n"}
	}
	config := &ssh.ServerConfig{
		NoClientAuth: true,
		NoClientAuthCallback: func(meta ssh.ConnMetadata) (*ssh.Permissions, error) {
			_, err := account.AuthenticateSecret(meta.User())
			return nil, told(err)
		},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return nil, account.OfferKey(meta.User(), key.Marshal())
		},
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			_, err := account.AuthenticateKey(meta.User(), key.Marshal())
			return nil, told(err)
		},
	}
	config.AddHostKey(d.signer)
	return config
}

// serveSession runs one command, or a shell without a terminal.
func serveSession(account *access.Connection, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	for r := range requests {
		var command string
		switch r.Type {
		case "exec":
			var payload struct{ Command string }
			if ssh.Unmarshal(r.Payload, &payload) != nil {
				_ = r.Reply(false, nil)
				continue
			}
			command = payload.Command
		case "shell":
			command = "exec sh"
		case "subsystem":
			command = "exec /usr/lib/openssh/sftp-server"
		default:
			_ = r.Reply(r.Type == "env", nil)
			continue
		}
		_ = r.Reply(true, nil)
		account.Record(access.Event{Kind: access.EventExec, Session: "1", Command: command})
		end := account.Begin("exec: " + command)
		run(channel, requests, command)
		end()
		return
	}
}

// run runs a command, which is killed when its channel is closed, tells how it
// ended, and closes the channel.
func run(channel ssh.Channel, requests <-chan *ssh.Request, command string) {
	cmd := exec.Command("sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return
	}
	var copies sync.WaitGroup
	defer copies.Wait() // both end with the channel
	copies.Go(func() {
		_, _ = io.Copy(stdin, channel)
		_ = stdin.Close()
	})
	copies.Go(func() {
		ssh.DiscardRequests(requests)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what sh started holds the channel too
	})
	_ = cmd.Wait()
	status := struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
	_ = channel.Close()
}
