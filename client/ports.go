package client

import (
	"context"
	"iter"
	"net/netip"

	"google.golang.org/grpc"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Port is a socket in the guest that accepts traffic from anybody: a TCP
// listener, or a UDP socket that is bound and not connected.
type Port struct {
	Network string         // "tcp", "tcp6", "udp" or "udp6"; a "…6" one on [::] usually serves IPv4, too
	Addr    netip.AddrPort // 0.0.0.0 and [::] are all addresses of the guest
	UID     int            // user who made it
	PID     int            // process that has it open, of several the oldest; 0 if none is seen
	Name    string         // that process's name, as the guest gives it: escape it for a terminal
	Process string         // id of the agent's process that it descends from; "" without one
}

// Ports returns the ports of the guest that are listened on, ordered by number.
func (c *Client) Ports(ctx context.Context) ([]Port, error) {
	response, err := retry(ctx, c, func(o ...grpc.CallOption) (*guestdv1.ListPortsResponse, error) {
		return c.net.ListPorts(ctx, &guestdv1.ListPortsRequest{}, o...)
	})
	if err != nil {
		return nil, c.mapError("list ports", "", err)
	}
	return portsFromWire(response.GetPorts()), nil
}

// PortChange is what changed about the guest's ports: those that are now
// listened on, or by another process, and those that no longer are.
type PortChange struct {
	Opened, Closed []Port
}

// PortWatch reports what is listened on in the guest. It is for one goroutine;
// to end a Next that waits, cancel the context it was made with.
type PortWatch struct {
	client *Client
	cancel context.CancelFunc
	call   guestdv1.NetService_WatchPortsClient
}

// WatchPorts begins to watch. The first change is all that is listened on, and
// comes at once. A port that opens is reported within about a second, and within
// a tenth of one after processes were started; one that closes sooner may not be
// reported. The caller must close the watch; the end of ctx ends it as well. It
// does not outlive its connection: after [ErrUnavailable], watch again.
func (c *Client) WatchPorts(ctx context.Context) (*PortWatch, error) {
	callCtx, cancel := context.WithCancel(ctx)
	call, err := c.net.WatchPorts(callCtx, &guestdv1.WatchPortsRequest{})
	if err != nil {
		cancel()
		return nil, c.mapError("watch ports", "", err)
	}
	return &PortWatch{client: c, cancel: cancel, call: call}, nil
}

// Next returns the next change.
func (w *PortWatch) Next() (PortChange, error) {
	var change PortChange
	for {
		response, err := w.call.Recv()
		if err = unexpectedEOF(err); err != nil {
			return PortChange{}, w.client.mapError("watch ports", "", err)
		}
		change.Opened = append(change.Opened, portsFromWire(response.GetOpened())...)
		change.Closed = append(change.Closed, portsFromWire(response.GetClosed())...)
		if len(change.Opened)+len(change.Closed) > maxPorts {
			return PortChange{}, protocolError("more than %d ports", maxPorts)
		}
		if !response.GetMore() {
			return change, nil
		}
	}
}

// maxPorts bounds what a guest can make a change hold: all ports of four
// networks, on a few addresses.
const maxPorts = 1 << 20

// Changes calls Next until it fails; the last pair is its error.
func (w *PortWatch) Changes() iter.Seq2[PortChange, error] {
	return func(yield func(PortChange, error) bool) {
		for {
			change, err := w.Next()
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the watch.
func (w *PortWatch) Close() error {
	w.cancel()
	return nil
}

func portsFromWire(messages []*guestdv1.Port) []Port {
	ports := make([]Port, 0, len(messages))
	for _, m := range messages {
		// What is not an address comes from an agent that is newer, or hostile.
		address, _ := netip.ParseAddr(printable(m.GetAddress())) // a zone may be any text
		ports = append(ports, Port{
			Network: m.GetNetwork(), Addr: netip.AddrPortFrom(address, uint16(min(m.GetPort(), 0xffff))),
			UID: int(m.GetUid()), PID: int(m.GetPid()), Name: m.GetProcessName(), Process: m.GetProcessId(),
		})
	}
	return ports
}
