//go:build linux

package access

import (
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Permissions are what the connections of a grant may do. The zero value
// permits nothing.
type Permissions struct {
	PTY   bool // a terminal
	Exec  bool // commands
	Shell bool // the user's login shell
	SFTP  bool // the sftp subsystem
	Agent bool // forwarding of the client's SSH agent

	LocalTCP   Forwarding // from the client to TCP addresses that the guest reaches
	RemoteTCP  Forwarding // TCP listeners in the guest
	LocalUnix  Forwarding // to unix sockets in the guest
	RemoteUnix Forwarding // unix listeners in the guest
}

// Everything is what a grant without Permissions permits.
func Everything() Permissions {
	any := Forwarding{Allowed: true}
	return Permissions{
		PTY: true, Exec: true, Shell: true, SFTP: true, Agent: true,
		LocalTCP: any, RemoteTCP: any, LocalUnix: any, RemoteUnix: any,
	}
}

// clone returns a copy that shares nothing; nil for nil.
func (p *Permissions) clone() *Permissions {
	if p == nil {
		return nil
	}
	c := *p
	for _, f := range c.forwardings() {
		f.Targets = slices.Clone(f.Targets)
	}
	return &c
}

// equal reports whether both say the same. nil says "everything", which the
// result of Everything says too.
func (p *Permissions) equal(other *Permissions) bool {
	everything := Everything()
	if p == nil {
		p = &everything
	}
	if other == nil {
		other = &everything
	}
	mine, theirs := p.forwardings(), other.forwardings()
	for i := range mine {
		if mine[i].Allowed != theirs[i].Allowed || !slices.Equal(mine[i].Targets, theirs[i].Targets) {
			return false
		}
	}
	return p.PTY == other.PTY && p.Exec == other.Exec && p.Shell == other.Shell &&
		p.SFTP == other.SFTP && p.Agent == other.Agent
}

// forwardings are the four kinds, in the order of the fields.
func (p *Permissions) forwardings() [4]*Forwarding {
	return [4]*Forwarding{&p.LocalTCP, &p.RemoteTCP, &p.LocalUnix, &p.RemoteUnix}
}

// Forwarding permits one kind of forward.
type Forwarding struct {
	Allowed bool
	// Targets restrict it: "HOST:PORT" or a path, in which "*" stands for any
	// host, any port, or in a path for any part of a name (path.Match).
	// Empty is any target.
	//
	// Names are compared as they are written, without a look-up, but for
	// upper and lower case and the different spellings of one IP address. An
	// IPv6 address stands in brackets.
	Targets []string
}

// PermitsTCP reports whether a TCP target or listening address is permitted.
// Host is as the client wrote it; for a listener it may be "", every address.
func (f Forwarding) PermitsTCP(host string, port uint32) bool {
	if !f.Allowed || port > 65535 {
		return false
	}
	if len(f.Targets) == 0 {
		return true
	}
	for _, target := range f.Targets {
		wantHost, wantPort, err := net.SplitHostPort(target)
		if err == nil && portMatches(wantPort, port) && hostMatches(wantHost, host) {
			return true
		}
	}
	return false
}

// PermitsUnix reports whether the path of a socket is permitted. Where there
// are targets, a path that is not absolute and clean is not: in "/run/../etc"
// a "*" would stand for "..". Symbolic links are not looked at: who may make
// them below a target can lead it elsewhere, with the rights of the session's
// own user.
func (f Forwarding) PermitsUnix(name string) bool {
	if !f.Allowed || len(f.Targets) == 0 {
		return f.Allowed
	}
	if !path.IsAbs(name) || path.Clean(name) != name {
		return false
	}
	for _, target := range f.Targets {
		if ok, err := path.Match(target, name); ok && err == nil {
			return true
		}
	}
	return false
}

func portMatches(want string, port uint32) bool {
	return want == "*" || want == strconv.FormatUint(uint64(port), 10)
}

func hostMatches(want, host string) bool {
	if want == "*" || strings.EqualFold(want, host) {
		return true
	}
	a, err := netip.ParseAddr(want)
	if err != nil {
		return false
	}
	b, err := netip.ParseAddr(host)
	return err == nil && a.Unmap() == b.Unmap()
}

// Bounds of a list of targets.
const (
	maxTargets     = 100
	maxTargetBytes = 1024
)

// check returns a *GrantError for targets that could never match.
func (p *Permissions) check() error {
	if p == nil {
		return nil
	}
	names := [4]string{"LocalTCP", "RemoteTCP", "LocalUnix", "RemoteUnix"}
	for i, f := range p.forwardings() {
		field := "Permissions." + names[i] + ".Targets"
		if len(f.Targets) > maxTargets {
			return &GrantError{field, "are more than " + strconv.Itoa(maxTargets)}
		}
		valid := validTCPTarget
		if i >= 2 {
			valid = validUnixTarget
		}
		for _, target := range f.Targets {
			if len(target) > maxTargetBytes || !printable(target) || !valid(target) {
				return &GrantError{field, strconv.QuoteToASCII(clip(target, 100)) + " is malformed"}
			}
		}
	}
	return nil
}

func validTCPTarget(target string) bool {
	host, port, err := net.SplitHostPort(target)
	if err != nil || port == "" || host != "*" && strings.Contains(host, "*") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "*" || err == nil && strconv.FormatUint(n, 10) == port
}

func validUnixTarget(target string) bool {
	_, err := path.Match(target, "")
	return err == nil && path.IsAbs(target) && path.Clean(target) == target
}
