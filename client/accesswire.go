package client

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// toWire translates the grant. The error is [ErrInvalidRequest].
func (g *Grant) toWire() (*guestdv1.Grant, error) {
	m := &guestdv1.Grant{Id: g.ID, User: g.User, Command: g.Command, Label: g.Label}
	credentials := 0
	if g.Key != nil {
		credentials++
		m.Credential = &guestdv1.Grant_AuthorizedKey{AuthorizedKey: authorizedKey(g.Key)}
	}
	if g.Secret != "" {
		credentials++
		sum := sha256.Sum256([]byte(g.Secret))
		m.Credential = &guestdv1.Grant_SecretSha256{SecretSha256: sum[:]}
	}
	if len(g.SecretHash) > 0 {
		credentials++
		m.Credential = &guestdv1.Grant_SecretSha256{SecretSha256: g.SecretHash}
	}
	if credentials != 1 {
		return nil, fmt.Errorf("%w: a grant needs a key, a secret or the hash of one", ErrInvalidRequest)
	}
	for _, text := range slices.Concat([]string{g.ID, g.User, g.Command, g.Label}, g.Permissions.targets()) {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: %q is not UTF-8", ErrInvalidRequest, text)
		}
	}
	var err error
	if m.Env, m.RawEnv, err = envToWire(g.Env); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	switch {
	case g.TTL < 0:
		m.NoExpiry = true
	case g.TTL > 0:
		m.Ttl = durationToWire(g.TTL)
	}
	if g.MaxConnections < 0 {
		m.UnlimitedConnections = true
	} else {
		m.MaxConnections = uint32(min(g.MaxConnections, 1<<31-1))
	}
	m.Permissions = g.Permissions.toWire()
	if g.Client.IsValid() {
		m.ClientAddress = g.Client.String()
	}
	return m, nil
}

// targets are those of all kinds of forwards.
func (p *SSHPermissions) targets() []string {
	if p == nil {
		return nil
	}
	return slices.Concat(p.LocalTCP.Targets, p.RemoteTCP.Targets, p.LocalUnix.Targets, p.RemoteUnix.Targets)
}

func (p *SSHPermissions) toWire() *guestdv1.GrantPermissions {
	if p == nil {
		return nil
	}
	forwarding := func(f SSHForwarding) *guestdv1.ForwardPermission {
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

func permissionsFromWire(m *guestdv1.GrantPermissions) SSHPermissions {
	forwarding := func(f *guestdv1.ForwardPermission) SSHForwarding {
		return SSHForwarding{Allowed: f != nil, Targets: f.GetTargets()}
	}
	return SSHPermissions{
		PTY: m.GetPty(), Exec: m.GetExec(), Shell: m.GetShell(), SFTP: m.GetSftp(), Agent: m.GetAgentForwarding(),
		LocalTCP: forwarding(m.GetLocalTcp()), RemoteTCP: forwarding(m.GetRemoteTcp()),
		LocalUnix: forwarding(m.GetLocalUnix()), RemoteUnix: forwarding(m.GetRemoteUnix()),
	}
}

func grantInfoFromWire(m *guestdv1.GrantInfo) GrantInfo {
	info := GrantInfo{
		ID: m.GetId(), Fingerprint: m.GetFingerprint(), KeyType: m.GetKeyType(), User: m.GetUser(),
		Label: m.GetLabel(), Command: m.GetCommand(), Permissions: permissionsFromWire(m.GetPermissions()),
		Client: addressFromWire(m.GetClientAddress()), Created: timeFromWire(m.GetCreateTime()),
		Expires:        timeFromWire(m.GetExpireTime()),
		MaxConnections: int(m.GetMaxConnections()), Used: int(m.GetUsedConnections()),
		Live: int(m.GetLiveConnections()), Revoked: m.GetRevoked(),
	}
	if info.MaxConnections == 0 {
		info.MaxConnections = -1
	}
	return info
}

// addressFromWire is invalid for what is not an address.
func addressFromWire(text string) netip.AddrPort {
	address, err := netip.ParseAddrPort(printable(text)) // a zone may be any text
	if err != nil {
		return netip.AddrPort{}
	}
	return address
}

// hostKeyFromWire parses what the guest says is its key.
func hostKeyFromWire(m *guestdv1.HostKey) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.GetAuthorizedKey()))
	if err != nil {
		return nil, protocolError("no host key in %q", printable(m.GetAuthorizedKey()))
	}
	return key, nil
}

// authorizedKey is a public key as authorized_keys has it.
func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
