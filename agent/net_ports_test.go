//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// portHelper is a program that listens on a port and prints it.
const portHelper = `import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
time.sleep(1000)`

func TestPorts(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("SKIP: no python3 to listen")
	}
	a := serveNet(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	watch, err := a.WatchPorts(ctx, &guestdv1.WatchPortsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	// Not the process itself, but its child.
	x := a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"sh", "-c", "python3 -c '" + portHelper + "'; true"}, Id: "server"}))
	var port uint32
	for port == 0 {
		resp, err := x.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if data := resp.GetStdout().GetData(); len(data) > 0 {
			_, _ = fmt.Sscan(string(data), &port)
		}
	}
	check := func(ports []*guestdv1.Port) bool {
		i := slices.IndexFunc(ports, func(p *guestdv1.Port) bool { return p.Port == port })
		if i < 0 {
			return false
		}
		p := ports[i]
		if p.Network != "tcp" || p.Address != "127.0.0.1" || p.Pid == 0 || p.Uid != uint32(os.Geteuid()) || p.ProcessId != "server" || !strings.HasPrefix(p.ProcessName, "python3") {
			t.Errorf("port: %v", p)
		}
		return true
	}
	list, err := a.ListPorts(testContext(t), &guestdv1.ListPortsRequest{})
	if err != nil || !check(list.Ports) {
		t.Errorf("%v, %v", list, err)
	}
	await := func(which func(*guestdv1.WatchPortsResponse) []*guestdv1.Port) {
		t.Helper()
		for {
			resp, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if check(which(resp)) {
				return
			}
		}
	}
	await((*guestdv1.WatchPortsResponse).GetOpened)
	if _, err := a.Signal(testContext(t), &guestdv1.SignalRequest{Process: "server", Name: "KILL", Scope: guestdv1.SignalScope_SIGNAL_SCOPE_TREE}); err != nil {
		t.Fatal(err)
	}
	await((*guestdv1.WatchPortsResponse).GetClosed)
}

func TestSendPorts(t *testing.T) {
	ports := make([]*guestdv1.Port, maxPortBatch+1)
	for i := range ports {
		ports[i] = &guestdv1.Port{Port: uint32(i)}
	}
	var opened, closed []*guestdv1.Port
	var more []bool
	err := sendPorts(&guestdv1.WatchPortsResponse{Opened: ports, Closed: ports[:2]}, func(r *guestdv1.WatchPortsResponse) error {
		opened, closed, more = append(opened, r.Opened...), append(closed, r.Closed...), append(more, r.More)
		return nil
	})
	if err != nil || !slices.Equal(opened, ports) || !slices.Equal(closed, ports[:2]) || !slices.Equal(more, []bool{true, false}) {
		t.Errorf("%d opened, %d closed, more %v, %v", len(opened), len(closed), more, err)
	}
	more = nil
	if err := sendPorts(&guestdv1.WatchPortsResponse{}, func(r *guestdv1.WatchPortsResponse) error {
		more = append(more, r.More)
		return nil
	}); err != nil || !slices.Equal(more, []bool{false}) {
		t.Errorf("nothing: %v, %v", more, err)
	}
}
