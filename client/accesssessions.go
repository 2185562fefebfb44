package client

import (
	"context"
	"net/netip"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// SSHSession describes an open SSH connection, with all its channels, at one
// moment. Its strings come from the guest as they are: escape them before they
// are shown on a terminal.
type SSHSession struct {
	ID       string         // never used again
	Grant    string         // id of the grant that admitted it
	Label    string         // the grant's
	User     string         // Linux user
	Client   netip.AddrPort // the grant's; invalid where it is not known
	Peer     string         // the transport's name of the peer
	Since    time.Time      // in the guest's time
	Activity []string       // what it is doing, for people; at most 32
	Received uint64         // bytes from the client
	Sent     uint64         // bytes to it
}

// SSHSessions describes the open SSH connections, oldest first.
func (c *Client) SSHSessions(ctx context.Context) ([]SSHSession, error) {
	response, err := c.access.ListSessions(ctx, &guestdv1.ListSessionsRequest{})
	if err != nil {
		return nil, c.mapError("list sessions", "", err)
	}
	sessions := make([]SSHSession, len(response.GetSessions()))
	for i, s := range response.GetSessions() {
		sessions[i] = SSHSession{
			ID: s.GetId(), Grant: s.GetGrantId(), Label: s.GetLabel(), User: s.GetUser(),
			Client: addressFromWire(s.GetClientAddress()), Peer: s.GetPeer(), Since: timeFromWire(s.GetStartTime()),
			Activity: s.GetActivity(), Received: s.GetReceivedBytes(), Sent: s.GetSentBytes(),
		}
	}
	return sessions, nil
}

// KillSSHSession ends an SSH connection. Its grant stays: [Client.Revoke]
// withdraws that. A session that is not open (any more) is [fs.ErrNotExist].
func (c *Client) KillSSHSession(ctx context.Context, id string) error {
	_, err := c.access.KillSession(ctx, &guestdv1.KillSessionRequest{Id: id})
	return c.mapError("kill session", id, err)
}
