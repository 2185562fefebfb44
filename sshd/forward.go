//go:build linux

package sshd

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/guestnet"
)

// Channels that the peer opens to reach something in the guest: `ssh -L`, -D, -W.
const (
	kindDirectTCP  = "direct-tcpip"                   // RFC 4254 §7.2
	kindDirectUnix = "direct-streamlocal@openssh.com" // OpenSSH's PROTOCOL §2.4
)

// reasonNotPermitted is why a forward is refused that the grant does not permit.
const reasonNotPermitted = "not permitted"

// reasonDescriptors is why what needs descriptors is refused.
const reasonDescriptors = "too many descriptors in use"

// serveDirectTCP connects the peer with a TCP address that the guest reaches.
func (c *conn) serveDirectTCP(ctx context.Context, offer ssh.NewChannel) {
	var wanted struct {
		Host       string
		Port       uint32
		Originator string
		OriginPort uint32
	}
	if ssh.Unmarshal(offer.ExtraData(), &wanted) != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	target := hostPort(wanted.Host, wanted.Port)
	if !c.permits.LocalTCP.PermitsTCP(wanted.Host, wanted.Port) {
		c.refuseForward(offer, target)
		return
	}
	c.direct(ctx, offer, "tcp", target)
}

// serveDirectUnix connects the peer with a unix socket of the guest.
func (c *conn) serveDirectUnix(ctx context.Context, offer ssh.NewChannel) {
	var wanted struct {
		Path     string
		Reserved string
		Unused   uint32
	}
	if ssh.Unmarshal(offer.ExtraData(), &wanted) != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	if !c.permits.LocalUnix.PermitsUnix(wanted.Path) {
		c.refuseForward(offer, wanted.Path)
		return
	}
	c.direct(ctx, offer, "unix", wanted.Path)
}

// hostPort is a TCP address with a port as it comes over the wire.
func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

func (c *conn) refuseForward(offer ssh.NewChannel, target string) {
	c.account.Record(access.Event{Kind: access.EventForward, Target: target, Reason: reasonNotPermitted})
	_ = offer.Reject(ssh.Prohibited, reasonNotPermitted)
}

// direct dials with the rights of the connection's user, and carries.
func (c *conn) direct(ctx context.Context, offer ssh.NewChannel, network, target string) {
	if !c.descriptors.Take(costForward) {
		c.account.Record(access.Event{Kind: access.EventForward, Target: target, Reason: reasonDescriptors})
		_ = offer.Reject(ssh.ResourceShortage, reasonDescriptors)
		return
	}
	defer c.descriptors.Give(costForward)
	user := c.files.Identity()
	dialer := guestnet.Dialer{User: &user}
	other, err := dialer.DialContext(ctx, network, target)
	if err != nil {
		reason := describeNetError(err)
		c.account.Record(access.Event{Kind: access.EventForward, Target: target, Reason: reason})
		_ = offer.Reject(ssh.ConnectionFailed, reason)
		return
	}
	defer func() { _ = other.Close() }()
	c.account.Record(access.Event{Kind: access.EventForward, Target: target})
	defer c.account.Begin("forward to " + target)()
	open, requests, err := offer.Accept()
	if err != nil {
		return
	}
	c.carry(ctx, open, requests, other.(carried))
}

// describeNetError says why a connection or a listener could not be made, with
// the words that clients print after "connect failed: ".
func describeNetError(err error) string {
	var errno syscall.Errno
	text := ""
	if errors.As(err, &errno) {
		text = errno.Error()
	} else if dns, ok := errors.AsType[*net.DNSError](err); ok {
		text = dns.Err // without the name, which the client knows, and the resolver
	} else if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		text = op.Err.Error()
	} else {
		text = err.Error()
	}
	if text == "" {
		return "failed"
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
