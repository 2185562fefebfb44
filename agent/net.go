//go:build linux

package agent

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/passwd"
	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// netService is NetService on top of package guestnet. Forward is in
// net_forward.go, Listen in net_listen.go.
type netService struct {
	guestdv1.UnimplementedNetServiceServer

	files    *fsops.System // who resolves users
	table    *proc.Table
	pool     *wire.Pool
	ports    *guestnet.Ports
	accepted waitingConns
	// background runs what may outlive the handler that started it.
	background *sync.WaitGroup
}

// maxPortBatch is the most ports in one message of WatchPorts: some 100 KiB.
const maxPortBatch = 1000

// user resolves a user; nil for the agent's own.
func (s *netService) user(spec string) (*passwd.Identity, error) {
	if spec == "" {
		return nil, nil
	}
	view, err := s.files.AsUser(spec, "")
	if err != nil {
		return nil, err
	}
	id := view.Identity()
	return &id, nil
}

// addressOf is the address that a request names.
func addressOf(text string, raw []byte) string {
	if len(raw) > 0 {
		return string(raw)
	}
	return text
}

// ListPorts tells which ports are listened on.
func (s *netService) ListPorts(ctx context.Context, _ *guestdv1.ListPortsRequest) (*guestdv1.ListPortsResponse, error) {
	ports, err := s.ports.List(ctx)
	if err != nil {
		return nil, err
	}
	return &guestdv1.ListPortsResponse{Ports: s.portMessages(ports)}, nil
}

// WatchPorts tells the same, and what changes.
func (s *netService) WatchPorts(
	_ *guestdv1.WatchPortsRequest, stream grpc.ServerStreamingServer[guestdv1.WatchPortsResponse],
) error {
	watch, err := s.ports.Watch()
	if err != nil {
		return err
	}
	defer release(watch)
	// Whose port it was cannot be found out once it is closed.
	told := make(map[uint64]*guestdv1.Port)
	for {
		change, err := watch.Next(stream.Context())
		if err != nil {
			return err
		}
		resp := new(guestdv1.WatchPortsResponse)
		for _, p := range change.Closed {
			resp.Closed = append(resp.Closed, told[p.Socket])
			delete(told, p.Socket)
		}
		resp.Opened = s.portMessages(change.Opened)
		for i, p := range change.Opened {
			told[p.Socket] = resp.Opened[i]
		}
		if err := sendPorts(resp, stream.Send); err != nil {
			return err
		}
	}
}

// sendPorts sends a change, in several messages where it is large.
func sendPorts(change *guestdv1.WatchPortsResponse, send func(*guestdv1.WatchPortsResponse) error) error {
	cut := func(ports *[]*guestdv1.Port) []*guestdv1.Port {
		n := min(len(*ports), maxPortBatch)
		first := (*ports)[:n]
		*ports = (*ports)[n:]
		return first
	}
	for more := true; more; {
		resp := &guestdv1.WatchPortsResponse{Opened: cut(&change.Opened), Closed: cut(&change.Closed)}
		more = len(change.Opened)+len(change.Closed) > 0
		resp.More = more
		if err := send(resp); err != nil {
			return err
		}
	}
	return nil
}

func (s *netService) portMessages(ports []guestnet.Port) []*guestdv1.Port {
	owners := make(map[int]string)
	messages := make([]*guestdv1.Port, len(ports))
	for i := range ports {
		p := &ports[i]
		id, ok := owners[p.PID]
		if !ok && p.PID != 0 {
			if owner, found := s.table.Owner(p.PID); found {
				id = owner.ID()
			}
			owners[p.PID] = id
		}
		messages[i] = &guestdv1.Port{
			Network: p.Network, Address: p.Addr.Addr().String(), Port: uint32(p.Addr.Port()),
			Uid: p.UID, Pid: uint32(p.PID), ProcessName: readable(p.Name), ProcessId: id,
		}
	}
	return messages
}
