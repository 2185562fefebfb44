//go:build linux

package sshd

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// Reasons for which a client is refused, besides those of package access. They
// are told to whoever watches the server, so they hold nothing that the client
// sent.
var (
	errHandshake  = errors.New("the handshake failed")
	errNotProven  = errors.New("no valid credential was offered")
	errLoginGrace = errors.New("the client did not authenticate in time")
	errNoUser     = errors.New("this credential is for a user that the guest does not have")
	errLookup     = errors.New("the guest cannot look up, or act for, the user of this credential at present")
)

// maxAuthTries is how often a client may try. There is nothing to be guessed:
// a secret has as many bits as a key. People have many keys in their agents.
const maxAuthTries = 20

// serverConfig returns the configuration of one handshake: each credential that
// the client offers is checked with package access. client and offered are as for
// algorithms. When the handshake has succeeded, c.grant is the client's grant.
func (c *conn) serverConfig(client clientName, offered *offer) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config:                  algorithms(client, offered),
		PublicKeyAuthAlgorithms: publicKeyAlgorithms(),
		ServerVersion:           banner(c.server.config.Version),
		MaxAuthTries:            maxAuthTries,
		NoClientAuth:            true,
		// A secret is the user name itself.
		NoClientAuthCallback: func(meta ssh.ConnMetadata) (*ssh.Permissions, error) {
			return nil, c.authenticateSecret(meta)
		},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			// Also called for queries: nothing is consumed here.
			return nil, c.account.OfferKey(userOf(meta), key.Marshal())
		},
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			user, blob := userOf(meta), key.Marshal()
			return nil, c.admit(
				func() (access.Grant, error) { return c.account.FindKey(user, blob) },
				func() (access.Grant, error) { return c.account.AuthenticateKey(user, blob) })
		},
	}
	if !client.beginsWithNone() {
		// A secret is taken by whichever method the client has; what it says
		// besides the name does not matter.
		config.PasswordCallback = func(meta ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
			return nil, c.authenticateSecret(meta)
		}
		config.KeyboardInteractiveCallback = func(meta ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			// No question, but clients (Go's is one) insist on being asked.
			if _, err := challenge("", "", nil, nil); err != nil {
				return nil, err
			}
			return nil, c.authenticateSecret(meta)
		}
	}
	config.AddHostKey(c.server.hostKey)
	return config
}

// userOf is the name that a client logs in under. What follows a colon, which no
// name has, is a style of authentication, as OpenSSH calls it; there are none.
func userOf(meta ssh.ConnMetadata) string {
	name, _, _ := strings.Cut(meta.User(), ":")
	return name
}

func (c *conn) authenticateSecret(meta ssh.ConnMetadata) error {
	user := userOf(meta)
	return c.admit(
		func() (access.Grant, error) { return c.account.FindSecret(user) },
		func() (access.Grant, error) { return c.account.AuthenticateSecret(user) })
}

// admit takes over the grant that find finds, by consume, or says why there is
// none. Only the holder of a credential gets another error than
// access.ErrUnknown, so it may be told.
func (c *conn) admit(find, consume func() (access.Grant, error)) error {
	grant, err := find()
	if err != nil {
		return c.refusal(err)
	}
	// Before it is consumed: the guest may be out of descriptors just now.
	files, err := c.server.config.Files.AsUser(grant.User, "")
	if err != nil {
		c.server.log.Warn("ssh user", "grant", grant.ID, "error", err)
		if _, system := errors.AsType[syscall.Errno](err); system {
			return c.refusal(errLookup)
		}
		return c.refusal(errNoUser)
	}
	if grant, err = consume(); err != nil {
		return c.refusal(err)
	}
	c.files = files
	c.grant = grant
	c.permits = access.Everything()
	if grant.Permissions != nil {
		c.permits = *grant.Permissions
	}
	return nil
}

// refusal tells the client why, once, unless that would tell something that it
// does not know.
func (c *conn) refusal(err error) error {
	if errors.Is(err, access.ErrUnknown) {
		return err
	}
	c.refused = err
	banner := ""
	if !c.bannered {
		c.bannered = true
		banner = err.Error() + "\r\n"
	}
	return &ssh.BannerError{Err: err, Message: banner}
}

// reason is why the handshake came to nothing, for the account.
func (c *conn) reason(ctx context.Context, err error) error {
	var unproven *ssh.ServerAuthError
	switch {
	case c.refused != nil:
		return c.refused
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &unproven):
		return errNotProven
	}
	return errHandshake
}
