//go:build linux

package guestnet

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// DefaultDialTimeout bounds a dial: a destination that answers nothing at all
// should be told before whoever asked gives up.
const DefaultDialTimeout = 30 * time.Second

// Dialer connects from the guest to where the guest can reach. The zero value
// is ready to use, by any number of goroutines.
type Dialer struct {
	// User is whose rights to use; nil is the agent's own.
	User *passwd.Identity

	// Timeout bounds one dial, the looking up of its name included. Zero is
	// [DefaultDialTimeout].
	Timeout time.Duration
}

// keepAlive notices, in the end, a TCP peer that is gone without a word. A
// forward may be quiet for hours, and each probe wakes an idle machine.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Minute, Interval: time.Minute, Count: 5}

// DialContext connects to address. It is for the networks of the package's
// documentation, and returns a *net.TCPConn, *net.UDPConn or *net.UnixConn,
// which is the caller's. Of TCP addresses of both families it tries a second
// one alongside the first that does not answer (RFC 8305).
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = DefaultDialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch kind(network) {
	case "unix":
		return d.dialUnix(ctx, address)
	case "tcp", "udp":
		return d.dialIP(ctx, network, address)
	}
	return nil, &AddressError{network, address, "is of no known network"}
}

func (d *Dialer) dialIP(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := splitHostPort(network, address)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, &AddressError{network, address, "has port 0"}
	}
	dialer := net.Dialer{
		Resolver:        &net.Resolver{PreferGo: true},
		KeepAliveConfig: keepAlive,
		Control:         own(d.User),
	}
	if !isLocalhost(host) {
		return dialer.DialContext(ctx, network, address)
	}
	var first error
	for _, host := range loopbacks(network) {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return conn, nil
		}
		if first == nil || errors.Is(first, unix.EADDRNOTAVAIL) {
			first = err
		}
	}
	return nil, first
}

// loopbacks are the addresses to try for localhost, in this order.
func loopbacks(network string) []string {
	const v4, v6 = "127.0.0.1", "::1"
	switch network[len(network)-1] {
	case '4':
		return []string{v4}
	case '6':
		return []string{v6}
	}
	return []string{v4, v6}
}

// own gives a socket to user, which is what net.Dialer calls a control
// function; nil for the agent's own sockets.
func own(user *passwd.Identity) func(network, address string, c syscall.RawConn) error {
	if user == nil || user.UID == uint32(unix.Geteuid()) {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var ownErr error
		err := c.Control(func(fd uintptr) {
			ownErr = unix.Fchown(int(fd), int(user.UID), int(user.GID))
		})
		return errors.Join(err, ownErr)
	}
}
