package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const (
	// revokeTimeout bounds the removal of a credential that was not used.
	revokeTimeout = 5 * time.Second
	// maxBanner bounds what a guest's banner adds to an error.
	maxBanner = 1 << 10
)

// DialSSH connects to the guest's SSH server as grant.User: it makes a key that
// nobody else ever sees, grants it for one connection, and opens that connection
// with dial, which connects to the SSH server (in a microVM, vsock port 22) and
// not to the agent. It pins the host key that the agent reports, so that nobody
// in between can pose as the guest.
//
// The credential and MaxConnections of grant are DialSSH's to choose and must be
// zero; TTL bounds the time until the connection is authenticated. The context
// bounds only the connecting. The connection ends when it is closed, or by
// [Client.Revoke] with grant.ID. If DialSSH fails, the credential is revoked.
func (c *Client) DialSSH(
	ctx context.Context, dial func(ctx context.Context) (net.Conn, error), grant Grant,
) (*ssh.Client, error) {
	if grant.Key != nil || grant.Secret != "" || len(grant.SecretHash) > 0 || grant.MaxConnections != 0 {
		return nil, fmt.Errorf("%w: the credential of an SSH connection is its own", ErrInvalidRequest)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	grant.Key = signer.PublicKey()
	if grant.ID == "" {
		grant.ID = newID()
	}
	info, err := c.Grant(ctx, grant)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrUnavailable) {
			c.disown(ctx, grant.Key) // it may have been made all the same
		}
		return nil, err
	}
	conn, err := dialSSH(ctx, dial, signer, info)
	if err != nil {
		return nil, errors.Join(err, c.takeBack(ctx, info.ID))
	}
	return conn, nil
}

// takeBack revokes a grant that nobody will use, also after ctx is done. A grant
// that the agent does not know is no error.
func (c *Client) takeBack(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	_, err := c.access.RevokeGrant(ctx, &guestdv1.RevokeGrantRequest{Id: id})
	if status.Code(err) == codes.NotFound || isConnectionLost(err) {
		return nil // an agent that is gone has taken its grants along
	}
	return c.mapError("revoke", id, err)
}

// disown revokes the grant of a key, if there is one: its maker was not told. The
// agent may just be at it, so that a grant which is not there is looked for again,
// for a quarter of a second in all. It goes by the key, as the id that was asked
// for may be another grant's.
func (c *Client) disown(ctx context.Context, key ssh.PublicKey) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	for attempt := range 8 {
		pause(ctx, attempt)
		grants, err := c.Grants(ctx)
		if err != nil {
			return // an agent that is gone has taken its grants along
		}
		for _, g := range grants {
			if g.Fingerprint == ssh.FingerprintSHA256(key) {
				_ = c.takeBack(ctx, g.ID) // the error of the dial is the one to tell
				return
			}
		}
	}
}

// dialSSH connects with a credential that has been granted.
func dialSSH(
	ctx context.Context, dial func(ctx context.Context) (net.Conn, error), signer ssh.Signer, info GrantInfo,
) (*ssh.Client, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	var banner strings.Builder
	config := &ssh.ClientConfig{
		User:              info.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(info.HostKey),
		HostKeyAlgorithms: []string{info.HostKey.Type()},
		BannerCallback: func(text string) error {
			banner.WriteString(text[:min(len(text), max(0, maxBanner-banner.Len()))])
			return nil
		},
	}
	// The handshake knows no context: to end it is to end its connection.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	transport, channels, requests, err := ssh.NewClientConn(conn, "guest", config)
	switch {
	case !stop(): // ctx is done: conn is closed, or about to be
		err = context.Cause(ctx)
	case err != nil && banner.Len() > 0:
		err = fmt.Errorf("%w (the guest says: %s)", err, printable(strings.TrimSpace(banner.String())))
	}
	if err != nil {
		_ = conn.Close() // which ends a transport as well, if there is one
		return nil, fmt.Errorf("ssh: %w", err)
	}
	return ssh.NewClient(transport, channels, requests), nil
}
