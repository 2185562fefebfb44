//go:build linux

// Testinit is the /init of the guests in the tests of package microvm: PID 1
// by package boot, and in place of the agent a line server on vsock port 1024
// with a handful of commands. It proves the harness and PID 1 without guestd.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/mdlayher/vsock"

	"github.com/guestd/guestd/internal/boot"
)

func main() {
	if os.Getpid() == 1 {
		status, err := boot.Run(boot.Config{Tmp: true})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(status)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "testinit:", err)
		os.Exit(1)
	}
}

// anyCID is VMADDR_CID_ANY: the guest's own CID may not be known yet.
const anyCID = 1<<32 - 1

func serve() error {
	l, err := vsock.ListenContextID(anyCID, 1024, nil)
	if err != nil {
		return err
	}
	if kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		fmt.Fprintln(kmsg, "<5>testinit: ready")
		kmsg.Close()
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(conn)
	}
}

// answer serves one connection: one line with a command, then its output, then
// the end of the stream.
func answer(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	command, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch command {
	case "echo": // until the peer closes
		_, _ = io.Copy(conn, r)
	case "peer":
		fmt.Fprintln(conn, conn.RemoteAddr())
	case "pid":
		fmt.Fprintln(conn, os.Getpid(), os.Getppid())
	case "crash":
		panic("asked to crash")
	case "dial": // the host on a port
		var port uint32
		if _, err := fmt.Sscan(rest, &port); err != nil {
			fmt.Fprintln(conn, err)
			return
		}
		out, err := vsock.Dial(vsock.Host, port, nil)
		if err != nil {
			fmt.Fprintln(conn, err)
			return
		}
		defer func() { _ = out.Close() }()
		fmt.Fprintln(out, "hello from the guest")
		_, _ = io.Copy(conn, out)
	case "end":
		action := map[string]boot.Action{"poweroff": boot.PowerOff, "reboot": boot.Reboot}[rest]
		fmt.Fprintln(conn, boot.Request(action))
	case "sh":
		out, err := exec.Command("/bin/sh", "-c", rest).CombinedOutput()
		_, _ = conn.Write(out)
		if err != nil {
			fmt.Fprintln(conn, err)
		}
	}
}
