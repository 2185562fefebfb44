//go:build linux

package sshd

import (
	"bytes"
	"context"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// The names of OpenSSH's PROTOCOL file.
const (
	requestKeepAlive      = "keepalive@openssh.com"
	requestNoMoreSessions = "no-more-sessions@openssh.com"
	requestHostKeys       = "hostkeys-00@openssh.com"
	requestProveHostKeys  = "hostkeys-prove-00@openssh.com"
)

// A requestHandler answers a global request: whether it was granted, and what
// the reply carries. Requests are answered in their order, which is all that
// tells the peer which reply is whose, in the goroutine that also opens channels:
// a handler must not wait for the peer, nor for long.
type requestHandler func(ctx context.Context, payload []byte) (ok bool, reply []byte)

// requestHandler returns what answers a type of global request; nil is nothing,
// which refuses it.
func (c *conn) requestHandler(kind string) requestHandler {
	switch kind {
	case requestKeepAlive:
		return func(context.Context, []byte) (bool, []byte) { return true, nil }
	case requestNoMoreSessions:
		return func(context.Context, []byte) (bool, []byte) {
			c.noMoreSessions = true
			return true, nil
		}
	case requestProveHostKeys:
		return c.proveHostKeys
	case requestListenTCP:
		return c.listenTCP
	case requestCancelTCP:
		return c.cancelTCP
	case requestListenUnix:
		return c.listenUnix
	case requestCancelUnix:
		return c.cancelUnix
	}
	return nil
}

// answer answers a global request.
func (c *conn) answer(ctx context.Context, r *ssh.Request) {
	c.backlog.read(len(r.Payload))
	var ok bool
	var reply []byte
	if handler := c.requestHandler(r.Type); handler != nil {
		ok, reply = handler(ctx, r.Payload)
	}
	if r.WantReply {
		_ = r.Reply(ok, reply) // fails with the connection only
	}
}

// announceHostKeys tells the client all the keys that the guest has: OpenSSH's
// UpdateHostKeys.
func (c *conn) announceHostKeys() {
	key := struct{ Key []byte }{c.server.hostKey.PublicKey().Marshal()}
	_, _, _ = c.transport.SendRequest(requestHostKeys, false, ssh.Marshal(key))
}

// proveHostKeys signs for every key that the client asks about; a key that is
// not ours refuses all.
func (c *conn) proveHostKeys(_ context.Context, payload []byte) (bool, []byte) {
	const maxKeys = 16
	own := c.server.hostKey.PublicKey().Marshal()
	var reply []byte
	for range maxKeys {
		var next struct {
			Key  []byte
			Rest []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(payload, &next) != nil || !bytes.Equal(next.Key, own) {
			return false, nil
		}
		proof := struct {
			Purpose   string
			SessionID []byte
			Key       []byte
		}{requestProveHostKeys, c.transport.SessionID(), own}
		signature, err := c.server.hostKey.Sign(rand.Reader, ssh.Marshal(proof))
		if err != nil {
			return false, nil
		}
		reply = append(reply, ssh.Marshal(struct{ Signature []byte }{ssh.Marshal(signature)})...)
		if payload = next.Rest; len(payload) == 0 {
			return true, reply
		}
	}
	return false, nil
}
