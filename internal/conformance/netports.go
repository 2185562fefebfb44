package conformance

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// startServer starts a server of Python's that prints its port, which it
// returns. It ends with the test.
func (s *suite) startServer(t *testing.T, program string) (port string) {
	t.Helper()
	if s.sh(t, "command -v python3 || true") == "" {
		t.Skip("the guest has no python3")
	}
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"python3", "-c", program}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.kill(t, process) })
	result, err := process.Wait(s.context(t), client.WaitOutput{Pattern: `^\d+\n`}, client.WaitExit{})
	if err != nil || result.Condition != 0 {
		t.Fatalf("the server does not start: %+v, %v", result, err)
	}
	return strings.TrimSpace(string(result.Matched))
}

// netPorts watches a server of the guest come and go, which a shell of the
// agent's has started.
func (s *suite) netPorts(t *testing.T) {
	const port = 18767
	server := s.sh(t, "if busybox --list 2>/dev/null | grep -qx httpd; then echo busybox httpd -f -p 127.0.0.1:%d -h /; "+
		"elif command -v python3 >/dev/null; then echo python3 -m http.server %d --bind 127.0.0.1 -d /; fi", port, port)
	if server == "" {
		t.Skip("the guest has neither busybox httpd nor python3")
	}
	ctx, cancel := context.WithCancel(s.context(t))
	defer cancel()
	watch, err := s.client.WatchPorts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close() //nolint:errcheck // it cannot fail
	if _, err := watch.Next(); err != nil {
		t.Fatal(err)
	}
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"/bin/sh", "-c", server + "; true"}})
	if err != nil {
		t.Fatal(err)
	}
	opened := awaitPort(t, watch, port, func(c client.PortChange) []client.Port { return c.Opened })
	id := process.ID()
	if opened.Process != id || opened.PID == 0 || opened.Network != "tcp" || opened.Name == "" || opened.Addr.String() != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("opened: %+v, of process %s", opened, id)
	}
	ports, err := s.client.Ports(s.context(t))
	if i := slices.Index(ports, opened); err != nil || i < 0 {
		t.Errorf("%+v is not in %+v, %v", opened, ports, err)
	}
	if got := s.sh(t, "cat /proc/%d/comm", opened.PID); got != opened.Name {
		t.Errorf("pid %d is %s, not %s", opened.PID, got, opened.Name)
	}
	s.kill(t, process)
	if closed := awaitPort(t, watch, port, func(c client.PortChange) []client.Port { return c.Closed }); closed != opened {
		t.Errorf("closed: %+v, was %+v", closed, opened)
	}
}

// awaitPort waits for a change of a port.
func awaitPort(t *testing.T, watch *client.PortWatch, number uint16, of func(client.PortChange) []client.Port) client.Port {
	t.Helper()
	for {
		change, err := watch.Next()
		if err != nil {
			t.Fatalf("waiting for port %s: %v", strconv.Itoa(int(number)), err)
		}
		ports := of(change)
		if i := slices.IndexFunc(ports, func(p client.Port) bool { return p.Addr.Port() == number }); i >= 0 {
			return ports[i]
		}
	}
}
