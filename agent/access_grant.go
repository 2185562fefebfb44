//go:build linux

package agent

import (
	"errors"
	"math"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// grantOf translates a Grant. It refuses what cannot be said in an
// access.Grant; the rest is for package access to check.
func grantOf(m *guestdv1.Grant) (access.Grant, error) {
	if m == nil {
		return access.Grant{}, invalidRequest("grant: is missing")
	}
	g := access.Grant{
		ID: m.Id, User: m.User, Command: m.Command, Label: m.Label,
		Permissions: permissionsOf(m.Permissions),
	}
	var err error
	if g.Env, err = envOf("grant.env", m.Env, m.RawEnv); err != nil {
		return access.Grant{}, err
	}
	switch c := m.Credential.(type) {
	case *guestdv1.Grant_AuthorizedKey:
		if g.Key, err = keyOf(c.AuthorizedKey); err != nil {
			return access.Grant{}, err
		}
	case *guestdv1.Grant_SecretSha256:
		g.SecretHash = c.SecretSha256
	}
	if m.ClientAddress != "" {
		if g.Client, err = netip.ParseAddrPort(m.ClientAddress); err != nil {
			return access.Grant{}, invalidRequest("grant.client_address: is not an address with a port")
		}
	}
	if err := grantBounds(&g, m); err != nil {
		return access.Grant{}, err
	}
	return g, nil
}

// grantBounds translates for how long and how often.
func grantBounds(g *access.Grant, m *guestdv1.Grant) (err error) {
	if g.TTL, err = durationOf("grant.ttl", m.Ttl); err != nil {
		return err
	}
	switch {
	case m.NoExpiry && m.Ttl != nil:
		return invalidRequest("grant.ttl: cannot be combined with grant.no_expiry")
	case m.Ttl != nil && g.TTL == 0:
		return invalidRequest("grant.ttl: is zero")
	case m.NoExpiry:
		g.TTL = -1
	}
	switch {
	case m.UnlimitedConnections && m.MaxConnections != 0:
		return invalidRequest("grant.max_connections: cannot be combined with grant.unlimited_connections")
	case m.MaxConnections > math.MaxInt32:
		return invalidRequest("grant.max_connections: %d is too much", m.MaxConnections)
	case m.UnlimitedConnections:
		g.MaxConnections = -1
	default:
		g.MaxConnections = int(m.MaxConnections)
	}
	return nil
}

// keyOf parses the one line of an authorized_keys file. Options in it would be
// promises that nobody keeps.
func keyOf(line string) ([]byte, error) {
	line = strings.TrimSpace(line)
	if strings.ContainsAny(line, "\r\n") {
		return nil, invalidRequest("grant.authorized_key: is more than one line")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, invalidRequest("grant.authorized_key: is not a public key")
	}
	if len(options) > 0 {
		return nil, invalidRequest("grant.authorized_key: has options; use permissions and command instead")
	}
	return key.Marshal(), nil
}

// authorizedKey is a public key as authorized_keys has it.
func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func permissionsOf(m *guestdv1.GrantPermissions) *access.Permissions {
	if m == nil {
		return nil
	}
	forwarding := func(f *guestdv1.ForwardPermission) access.Forwarding {
		return access.Forwarding{Allowed: f != nil, Targets: f.GetTargets()}
	}
	return &access.Permissions{
		PTY: m.Pty, Exec: m.Exec, Shell: m.Shell, SFTP: m.Sftp, Agent: m.AgentForwarding,
		LocalTCP: forwarding(m.LocalTcp), RemoteTCP: forwarding(m.RemoteTcp),
		LocalUnix: forwarding(m.LocalUnix), RemoteUnix: forwarding(m.RemoteUnix),
	}
}

func permissionsMessage(p access.Permissions) *guestdv1.GrantPermissions {
	forwarding := func(f access.Forwarding) *guestdv1.ForwardPermission {
		if !f.Allowed {
			return nil
		}
		return &guestdv1.ForwardPermission{Targets: f.Targets}
	}
	return &guestdv1.GrantPermissions{
		Pty: p.PTY, Exec: p.Exec, Shell: p.Shell, Sftp: p.SFTP, AgentForwarding: p.Agent,
		LocalTcp: forwarding(p.LocalTCP), RemoteTcp: forwarding(p.RemoteTCP),
		LocalUnix: forwarding(p.LocalUnix), RemoteUnix: forwarding(p.RemoteUnix),
	}
}

// grantMessage describes a grant.
func grantMessage(g access.GrantInfo) *guestdv1.GrantInfo {
	m := &guestdv1.GrantInfo{
		Id: g.ID, Fingerprint: g.Fingerprint, KeyType: g.KeyType, User: g.User, Label: g.Label,
		Command: g.Command, Permissions: permissionsMessage(g.Permissions),
		ClientAddress: addressText(g.Client), CreateTime: timestamppb.New(g.Created),
		MaxConnections:  uint32(max(0, g.MaxConnections)),
		UsedConnections: uint32(g.Used), LiveConnections: uint32(g.Live), Revoked: g.Revoked,
	}
	if !g.Expires.IsZero() {
		m.ExpireTime = timestamppb.New(g.Expires)
	}
	return m
}

// addressText is an address as the wire has it; empty if it is not known.
func addressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// grantError says of a malformed grant which field of the request it is.
func grantError(err error) error {
	var bad *access.GrantError
	if !errors.As(err, &bad) {
		return err
	}
	field, ok := map[string]string{
		"ID":                             "id",
		"Key":                            "authorized_key",
		"SecretHash":                     "secret_sha256",
		"Env":                            "env",
		"Permissions.LocalTCP.Targets":   "permissions.local_tcp.targets",
		"Permissions.RemoteTCP.Targets":  "permissions.remote_tcp.targets",
		"Permissions.LocalUnix.Targets":  "permissions.local_unix.targets",
		"Permissions.RemoteUnix.Targets": "permissions.remote_unix.targets",
	}[bad.Field]
	if !ok {
		field = strings.ToLower(bad.Field) // User, Label, Command
	}
	return invalidRequest("grant.%s: %s", field, bad.Reason)
}
