//go:build linux

package sshd

import (
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/proc"
)

// signalNames are those of RFC 4254 §6.10.
var signalNames = [...]struct {
	name   string
	number syscall.Signal
}{
	{"ABRT", syscall.SIGABRT}, {"ALRM", syscall.SIGALRM}, {"FPE", syscall.SIGFPE},
	{"HUP", syscall.SIGHUP}, {"ILL", syscall.SIGILL}, {"INT", syscall.SIGINT},
	{"KILL", syscall.SIGKILL}, {"PIPE", syscall.SIGPIPE}, {"QUIT", syscall.SIGQUIT},
	{"SEGV", syscall.SIGSEGV}, {"TERM", syscall.SIGTERM}, {"USR1", syscall.SIGUSR1},
	{"USR2", syscall.SIGUSR2},
}

// signalNumber finds a signal by its name on the wire.
func signalNumber(name string) (syscall.Signal, bool) {
	for _, s := range signalNames {
		if s.name == name {
			return s.number, true
		}
	}
	return 0, false
}

// signalName is a signal's name on the wire. Those that the RFC lacks get one
// of its local form, as from OpenSSH.
func signalName(number syscall.Signal) string {
	for _, s := range signalNames {
		if s.number == number {
			return s.name
		}
	}
	return "SIG@openssh.com"
}

// statusOfSignal is added to a signal's number where a client can be told of no
// signal, as shells do.
const statusOfSignal = 128

// tellExit tells the client how the program ended, the first time: by
// exit-status, or by exit-signal if a signal killed it.
func (s *session) tellExit(e proc.Exit) {
	s.exit.Do(func() {
		if e.Signal != 0 && s.conn.client().closesTwice() {
			e = proc.Exit{Code: statusOfSignal + int(e.Signal)}
		}
		if e.Signal == 0 {
			status := struct{ Status uint32 }{uint32(e.Code)}
			_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(status))
			return
		}
		message := e.Signal.String()
		if e.OOM != nil {
			message += fmt.Sprintf(": out of memory (limit of the %s)", e.OOM.Scope)
		}
		killed := struct {
			Name       string
			CoreDumped bool
			Message    string
			Language   string
		}{signalName(e.Signal), e.CoreDumped, message, "en"}
		_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(killed))
	})
}

// describe is an exit for the account.
func describe(e proc.Exit) string {
	if e.Signal == 0 {
		return "exit " + strconv.Itoa(e.Code)
	}
	for _, s := range signalNames {
		if s.number == e.Signal {
			return "signal " + s.name
		}
	}
	return "signal " + strconv.Itoa(int(e.Signal))
}
