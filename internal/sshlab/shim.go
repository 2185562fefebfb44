//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

const (
	socketVariable = "SSHLAB_SOCKET"
	grantVariable  = "SSHLAB_GRANT"

	// childVariable marks the shim that serves, which the one that the test
	// called has left behind.
	childVariable = "SSHLAB_CHILD"
)

// A shim is sshd as OpenSSH's tests call it, with another server behind it: it
// lets in whom the configuration's AuthorizedKeysFile names and passes the
// connections on.
//
//	-t            the configuration is always right: nothing is done
//	-i            standard input and output are the connection
//	-f FILE       alone: listens on the Port of FILE in the background until it
//	              is terminated, with its pid in FILE's PidFile
//
// The other options are taken for what they are and do nothing.
type shim struct {
	config string
	test   bool
	inetd  bool
	debug  bool // stay in the foreground
	extra  []string
}

// A shimConfig is what the shim reads in an sshd_config.
type shimConfig struct {
	port           int
	pidFile        string
	authorizedKeys string // with sshd's %u
}

// parseShim reads sshd's arguments.
func parseShim(args []string) (shim, error) {
	var s shim
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[0] != '-' {
			return s, fmt.Errorf("sshd: extra argument %q", arg)
		}
		value := arg[2:]
		if strings.ContainsRune("CEbcfghkoOpu", rune(arg[1])) && value == "" {
			if len(args) == 0 {
				return s, fmt.Errorf("sshd: option %s requires an argument", arg)
			}
			value, args = args[0], args[1:]
		}
		switch arg[1] {
		case 'f':
			s.config = value
		case 'o':
			s.extra = append(s.extra, value)
		case 't', 'T':
			s.test = true
		case 'i':
			s.inetd = true
		case 'D', 'd':
			s.debug = true
		}
	}
	return s, nil
}

// parseConfig reads an sshd_config. Of a keyword that is given twice the first
// counts, as sshd_config(5) has it; Match blocks are left out.
func parseConfig(text string) shimConfig {
	var c shimConfig
	for line := range strings.Lines(text) {
		keyword, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.IndexAny(keyword, "\t="); i >= 0 {
			keyword, value = keyword[:i], keyword[i+1:]+" "+value
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(keyword) {
		case "port":
			if c.port == 0 {
				c.port, _ = strconv.Atoi(value)
			}
		case "pidfile":
			if c.pidFile == "" {
				c.pidFile = value
			}
		case "authorizedkeysfile":
			if c.authorizedKeys == "" {
				c.authorizedKeys, _, _ = strings.Cut(value, " ")
			}
		case "match":
			return c
		}
	}
	return c
}

// runShim is sshd.
func runShim(ctx context.Context, args []string) error {
	s, err := parseShim(args)
	if err != nil || s.test {
		return err
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	config := parseConfig(strings.Join(s.extra, "\n") + "\n" + string(text))
	socket := os.Getenv(socketVariable)
	switch {
	case socket == "":
		return errors.New(socketVariable + " is not set")
	case s.inetd:
		if err := letIn(ctx, config.authorizedKeys); err != nil {
			return err
		}
		return connect(ctx, socket)
	case config.port == 0:
		return fmt.Errorf("%s: no Port", s.config)
	case !s.debug && os.Getenv(childVariable) == "":
		return background(args)
	}
	return serveShim(ctx, config, socket)
}

// background starts the shim again, in a session of its own, and leaves it.
func background(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{"sshd"}, args...)...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// serveShim listens until it is terminated. Keys that the tests authorize while
// it runs are let in with the next connection, as in sshd.
func serveShim(ctx context.Context, config shimConfig, socket string) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(config.port)))
	if err != nil {
		return err
	}
	if err := writeFile(config.pidFile, fmt.Sprintln(os.Getpid())); err != nil {
		l.Close()
		return err
	}
	defer os.Remove(config.pidFile)
	return accept(ctx, l, func(conn net.Conn) {
		if err := letIn(ctx, config.authorizedKeys); err != nil {
			fmt.Fprintln(os.Stderr, "sshlab:", err)
			conn.Close()
			return
		}
		server, err := dialSocket(ctx, socket)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sshlab:", err)
			conn.Close()
			return
		}
		splice(ctx, conn.(duplex), server)
	})
}

// letIn lets in the keys of an authorized_keys file. A file that is not there
// lets in nobody.
func letIn(ctx context.Context, pattern string) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	keys, err := os.ReadFile(strings.ReplaceAll(pattern, "%u", me.Username))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", os.Getenv(grantVariable))
	cmd.Stdin = bytes.NewReader(keys)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("grant: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
