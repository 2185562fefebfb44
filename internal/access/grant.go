//go:build linux

package access

import (
	"net/netip"
	"time"
)

// A Grant is a credential and what it opens. It is plain data; the store keeps
// a copy of its own.
type Grant struct {
	// ID names the grant: 1 to 64 characters of [A-Za-z0-9._-], the first a
	// letter or digit. Empty draws a random one.
	ID string

	// Exactly one of Key and SecretHash is the credential.
	//
	// Key is a public key in SSH's wire format (RFC 4253 §6.6); its owner logs
	// in as User. SecretHash is the SHA-256 of a secret that is used as the
	// user name; whoever knows it needs nothing else.
	Key        []byte
	SecretHash []byte

	// User is the Linux user of the sessions, by name or number. Empty is the
	// agent's own user. The owner of a key logs in under just this text; for an
	// empty one under the name or the number of the agent's own user.
	User string

	// TTL is how long it lets connections in, from now. It does not end those
	// that are in: revoking does. 0 is [DefaultTTL]; negative is for ever.
	TTL time.Duration

	// MaxConnections is how many connections it lets in over its whole life.
	// 0 is 1, a single-use credential; negative is any number.
	MaxConnections int

	// Permissions are what its connections may do; nil is everything.
	Permissions *Permissions

	// Command is run instead of whatever the client asks for, which it finds
	// in SSH_ORIGINAL_COMMAND. Empty: the client chooses.
	Command string

	// Env holds "KEY=value" entries for every process, over those which the
	// client sends. It may hold secrets: it is never shown again.
	Env []string

	// Label says whom the credential is for; it is only carried along.
	Label string

	// Client is the address of the person's own client, for SSH_CLIENT and
	// SSH_CONNECTION. Invalid where it is not known.
	Client netip.AddrPort
}

// DefaultTTL is the life of a grant that asks for none.
const DefaultTTL = 5 * time.Minute

// GrantInfo is a grant as it is now. It never holds the credential itself.
type GrantInfo struct {
	ID             string
	Fingerprint    string // of a key: "SHA256:…" as ssh-keygen -l prints it; of a secret: empty
	KeyType        string // for example "ssh-ed25519"; empty for a secret
	User           string // the agent's own where the grant names none
	Label          string
	Command        string
	Permissions    Permissions
	Client         netip.AddrPort
	Created        time.Time
	Expires        time.Time // on the wall clock of now; zero: never
	MaxConnections int       // negative: any number
	Used           int       // connections that it let in
	Live           int       // of these, how many are there now
	Revoked        bool      // the answer of Revoke
}
