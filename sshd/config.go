//go:build linux

package sshd

import (
	"cmp"
	"log/slog"
	"net/netip"
	"time"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
)

// The defaults of [Config].
const (
	DefaultLoginGrace    = time.Minute
	DefaultKeepAlive     = 5 * time.Minute
	DefaultMaxSessions   = 1000
	DefaultMaxChannels   = 1000
	DefaultMaxUnread     = 256 << 20
	DefaultMaxBuffers    = 128 << 20
	DefaultWriteTimeout  = 15 * time.Minute
	defaultVersion       = "devel"
	keepAliveCount       = 3        // unanswered ones, until the peer is taken for gone
	maxConnectionBacklog = 64 << 20 // on the wire; see backlog
)

// Config configures a [Server]. Access, Processes and Files must be there.
type Config struct {
	// Logger gets failures that no client is told of and, at debug level,
	// connections; nil discards. It never gets user names, which may be
	// credentials, commands, or environments.
	Logger *slog.Logger

	// Access says who may come in and keeps account of them; its host key is
	// the server's. Processes runs what they run, Files is what they see.
	// All stay the caller's.
	Access    *access.Store
	Processes *proc.Table
	Files     *fsops.System

	// Version is the build's version, for the protocol's banner. Empty is
	// "devel".
	Version string

	// ToolDir is a directory that ends the PATH of every session: programs
	// that clients take for granted and that a guest may lack. Empty is none.
	ToolDir string

	// ServerAddr is what sessions are told of the server's own address, in
	// SSH_CONNECTION, where the grant names the client's. Invalid is
	// 127.0.0.1:22: vsock has no such addresses.
	ServerAddr netip.AddrPort

	// LoginGrace bounds the time from the connection to its authentication.
	// 0 is DefaultLoginGrace.
	LoginGrace time.Duration

	// KeepAlive is how long a peer may be silent until it is asked for a sign
	// of life; the third that is not answered ends the connection. 0 is
	// DefaultKeepAlive, negative is never.
	KeepAlive time.Duration

	// WriteTimeout ends a connection whose peer accepts nothing for so long.
	// 0 is DefaultWriteTimeout.
	WriteTimeout time.Duration

	// MaxSessions bounds the sessions of all connections together, half of
	// which one connection may have. MaxChannels bounds the channels of one
	// connection: sessions, forwarded connections and what the peer has not
	// answered yet. 0 is the default of each.
	MaxSessions int
	MaxChannels int

	// MaxDescriptors bounds the descriptors that all connections together hold,
	// half of which one connection may have. Beyond it clients get errors, so
	// that whatever else this process serves does not run out. 0 is half of this process's
	// limit (RLIMIT_NOFILE) when the server is made.
	MaxDescriptors int

	// MaxUnread bounds, in bytes on the wire, what all peers have sent and
	// nobody has read yet. Beyond it the connection that has most of it is
	// ended, as is one with half of it or 64 MiB. 0 is DefaultMaxUnread.
	MaxUnread int64

	// MaxBuffers bounds the large buffers that bulk data goes through, in bytes,
	// half of which one connection may have: where that is used up, data moves in
	// smaller pieces. 0 is DefaultMaxBuffers.
	MaxBuffers int
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if !c.ServerAddr.IsValid() {
		c.ServerAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 22)
	}
	c.Version = cmp.Or(c.Version, defaultVersion)
	c.LoginGrace = cmp.Or(c.LoginGrace, DefaultLoginGrace)
	c.KeepAlive = cmp.Or(c.KeepAlive, DefaultKeepAlive)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.MaxSessions = cmp.Or(c.MaxSessions, DefaultMaxSessions)
	c.MaxChannels = cmp.Or(c.MaxChannels, DefaultMaxChannels)
	c.MaxDescriptors = cmp.Or(c.MaxDescriptors, descriptorLimit())
	c.MaxUnread = cmp.Or(c.MaxUnread, DefaultMaxUnread)
	c.MaxBuffers = cmp.Or(c.MaxBuffers, DefaultMaxBuffers)
}
