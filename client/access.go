package client

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Grant says who may come in over SSH, and what for. Exactly one of Key, Secret
// and SecretHash is needed; everything else has a useful zero value.
type Grant struct {
	// ID names the grant, so that it can be revoked: 1 to 64 characters of
	// [A-Za-z0-9._-], the first a letter or digit. Granting the same twice under
	// one id gives the first. Default: a random one.
	ID string

	// Key is a public key: Ed25519, ECDSA, RSA of 2048 to 8192 bits, or one of a
	// security token. Its owner logs in as User.
	Key ssh.PublicKey
	// Secret admits whoever gives it as the SSH user name; nothing else is asked.
	// Only its SHA-256 is sent to the agent. [NewSecret] makes one.
	Secret string
	// SecretHash is the SHA-256 of a secret, for a caller that has only the hash.
	SecretHash []byte

	// User is the Linux user of the sessions, by name or number. Default: the
	// agent's own.
	User string
	// TTL is how long the grant admits new connections, in the guest's time; it
	// ends none that are open. Zero: 5 minutes. Negative: until it is revoked.
	TTL time.Duration
	// MaxConnections is how many connections it admits over its whole life. Zero: 1.
	// Negative: any number.
	MaxConnections int
	// Permissions are what its connections may do; nil: everything.
	Permissions *SSHPermissions
	// Command is run instead of whatever the client asks for, which it finds in
	// SSH_ORIGINAL_COMMAND. Empty: the client chooses.
	Command string
	// Env is "NAME=VALUE" entries for every process, over what the client sends.
	// It is never shown again. Of a name that comes twice the last counts.
	Env []string

	// Label tells, in listings and events, whom the credential is for: printable,
	// at most 256 bytes.
	Label string
	// Client is the address of the person's own client, for SSH_CLIENT and
	// SSH_CONNECTION. Invalid: not known.
	Client netip.AddrPort
}

// SSHPermissions are what connections may do. The zero value permits nothing.
type SSHPermissions struct {
	PTY   bool // a terminal
	Exec  bool // commands
	Shell bool // the user's login shell
	SFTP  bool // the sftp subsystem, which scp uses too
	Agent bool // forwarding of the client's SSH agent

	LocalTCP   SSHForwarding // from the client to TCP addresses that the guest reaches: -L, -D
	RemoteTCP  SSHForwarding // TCP listeners in the guest: -R
	LocalUnix  SSHForwarding // to unix sockets in the guest
	RemoteUnix SSHForwarding // unix listeners in the guest
}

// SSHForwarding permits one kind of forward.
type SSHForwarding struct {
	Allowed bool
	// Targets restrict it: "HOST:PORT" or an absolute path, in which "*" stands
	// for any host, any port, or in a path for any part of a name. Names are not
	// looked up. Empty: any.
	Targets []string
}

// GrantInfo describes a grant at one moment. Its strings come from the guest as
// they are: escape them before they are shown on a terminal.
type GrantInfo struct {
	ID             string
	Fingerprint    string // of a key, as ssh-keygen -l prints it; empty for a secret
	KeyType        string // for example "ssh-ed25519"; empty for a secret
	User           string // Linux user, and the name to log in with by key
	Label          string
	Command        string
	Permissions    SSHPermissions
	Client         netip.AddrPort // invalid where it is not known
	Created        time.Time      // in the guest's time
	Expires        time.Time      // in the guest's time; zero: never
	MaxConnections int            // negative: any number
	Used           int            // connections it has admitted
	Live           int            // those of them that are open now
	Revoked        bool           // set in what Revoke returns

	// HostKey is the key to expect of the guest's SSH server. Only [Client.Grant]
	// sets it.
	HostKey ssh.PublicKey
}

// NewSecret makes a secret for [Grant.Secret]: 26 characters of lower-case
// base32, 130 random bits, which every SSH client takes for a user name.
func NewSecret() string { return strings.ToLower(rand.Text()) }

// Grant lets the holder of a credential in. It fails with [fs.ErrExist] if
// another grant that is still valid has the same credential, or if the id is in
// use or was revoked, and with [errors.ErrUnsupported] if the agent has no SSH
// server.
//
// Grants do not survive a restart of the agent, nor does its host key.
func (c *Client) Grant(ctx context.Context, g Grant) (GrantInfo, error) {
	if g.ID == "" {
		g.ID = newID()
	}
	wire, err := g.toWire()
	if err != nil {
		return GrantInfo{}, err
	}
	request := &guestdv1.CreateGrantRequest{Grant: wire}
	response, err := retry(ctx, c, func(o ...grpc.CallOption) (*guestdv1.CreateGrantResponse, error) {
		return c.access.CreateGrant(ctx, request, o...)
	})
	if err != nil {
		return GrantInfo{}, c.mapError("grant", g.ID, err)
	}
	info := grantInfoFromWire(response.GetGrant())
	if info.HostKey, err = hostKeyFromWire(response.GetHostKey()); err != nil {
		return GrantInfo{}, err
	}
	return info, nil
}

// Revoke withdraws a grant and ends its connections, including those that are
// still being authenticated. Revoking twice is not an error; an id that the
// agent does not know is [fs.ErrNotExist].
func (c *Client) Revoke(ctx context.Context, id string) (GrantInfo, error) {
	request := &guestdv1.RevokeGrantRequest{Id: id}
	response, err := retry(ctx, c, func(o ...grpc.CallOption) (*guestdv1.RevokeGrantResponse, error) {
		return c.access.RevokeGrant(ctx, request, o...)
	})
	if err != nil {
		return GrantInfo{}, c.mapError("revoke", id, err)
	}
	return grantInfoFromWire(response.GetGrant()), nil
}

// Grants describes the grants that may still admit a connection or have one
// open, oldest first.
func (c *Client) Grants(ctx context.Context) ([]GrantInfo, error) {
	response, err := c.access.ListGrants(ctx, &guestdv1.ListGrantsRequest{})
	if err != nil {
		return nil, c.mapError("list grants", "", err)
	}
	infos := make([]GrantInfo, len(response.GetGrants()))
	for i, g := range response.GetGrants() {
		infos[i] = grantInfoFromWire(g)
	}
	return infos, nil
}

// HostKey returns the key by which SSH clients recognize the guest, until the
// agent is restarted.
func (c *Client) HostKey(ctx context.Context) (ssh.PublicKey, error) {
	response, err := c.access.GetHostKey(ctx, &guestdv1.GetHostKeyRequest{})
	if err != nil {
		return nil, c.mapError("get host key", "", err)
	}
	return hostKeyFromWire(response.GetHostKey())
}
