package main

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/client"
)

// jsonGrant is a grant as --json prints it; jsonHelp documents it.
type jsonGrant struct {
	ID             string     `json:"id"`
	Secret         string     `json:"secret,omitempty"` // only of grant
	Fingerprint    string     `json:"fingerprint,omitempty"`
	KeyType        string     `json:"key_type,omitempty"`
	User           string     `json:"user"`
	Label          string     `json:"label,omitempty"`
	Command        string     `json:"command,omitempty"`
	Permissions    []string   `json:"permissions"`
	Client         string     `json:"client,omitempty"`
	CreateTime     time.Time  `json:"create_time,omitzero"`
	ExpireTime     *time.Time `json:"expire_time,omitempty"`
	MaxConnections *int       `json:"max_connections,omitempty"`
	Used           int        `json:"used"`
	Live           int        `json:"live"`
	HostKey        string     `json:"host_key,omitempty"` // only of grant
}

func newJSONGrant(g *client.GrantInfo) jsonGrant {
	j := jsonGrant{
		ID: g.ID, Fingerprint: g.Fingerprint, KeyType: g.KeyType, User: g.User, Label: g.Label, Command: g.Command,
		Permissions: permissionWords(&g.Permissions), Client: addressText(g.Client), CreateTime: g.Created,
		Used: g.Used, Live: g.Live,
	}
	if !g.Expires.IsZero() {
		j.ExpireTime = &g.Expires
	}
	if g.MaxConnections >= 0 {
		j.MaxConnections = &g.MaxConnections
	}
	if g.HostKey != nil {
		j.HostKey = keyLine(g.HostKey)
	}
	return j
}

// jsonSession is a session as --json prints it; jsonHelp documents it.
type jsonSession struct {
	ID        string    `json:"id"`
	Grant     string    `json:"grant"`
	Label     string    `json:"label,omitempty"`
	User      string    `json:"user"`
	Client    string    `json:"client,omitempty"`
	Peer      string    `json:"peer,omitempty"`
	StartTime time.Time `json:"start_time,omitzero"`
	Activity  []string  `json:"activity"`
	Received  uint64    `json:"received_bytes"`
	Sent      uint64    `json:"sent_bytes"`
}

func newJSONSession(s *client.SSHSession) jsonSession {
	return jsonSession{
		ID: s.ID, Grant: s.Grant, Label: s.Label, User: s.User, Client: addressText(s.Client), Peer: s.Peer,
		StartTime: s.Since, Activity: append([]string{}, s.Activity...), Received: s.Received, Sent: s.Sent,
	}
}

// jsonAudit is a line of audit --json; jsonHelp documents it.
type jsonAudit struct {
	Time     time.Time     `json:"time,omitzero"`
	Event    string        `json:"event"`
	Session  string        `json:"session,omitempty"`
	Channel  string        `json:"channel,omitempty"`
	Grant    string        `json:"grant,omitempty"`
	Label    string        `json:"label,omitempty"`
	User     string        `json:"user,omitempty"`
	Client   string        `json:"client,omitempty"`
	Peer     string        `json:"peer,omitempty"`
	Command  string        `json:"command,omitempty"`
	Target   string        `json:"target,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Terminal bool          `json:"terminal,omitempty"`
	Bytes    *uint64       `json:"bytes,omitempty"`
	Received *uint64       `json:"received_bytes,omitempty"`
	Sent     *uint64       `json:"sent_bytes,omitempty"`
	Output   *jsonTerminal `json:"output,omitempty"`
	Missed   uint64        `json:"missed,omitempty"`
}

// jsonTerminal is what a terminal showed.
type jsonTerminal struct {
	Offset  float64 `json:"offset"`
	Text    string  `json:"text"`
	RawText []byte  `json:"raw_text,omitempty"`
	Rows    uint16  `json:"rows,omitempty"`
	Columns uint16  `json:"columns,omitempty"`
	Term    string  `json:"term,omitempty"`
}

func newJSONAudit(e *client.SSHEvent) jsonAudit {
	j := jsonAudit{
		Time: e.Time, Event: e.Type.String(), Session: e.Session, Channel: e.Channel, Grant: e.Grant, Label: e.Label,
		User: e.User, Client: addressText(e.Client), Peer: e.Peer, Command: e.Command, Target: e.Target,
		Reason: e.Reason, Terminal: e.TTY, Missed: e.Missed,
	}
	switch e.Type {
	case client.SSHFile:
		j.Bytes = &e.Bytes
	case client.SSHClosed:
		j.Received, j.Sent = &e.Received, &e.Sent
	}
	if t := e.Terminal; t != nil && e.Type == client.SSHTerminal {
		j.Output = &jsonTerminal{
			Offset: t.Offset.Seconds(), Text: string(t.Output), Rows: t.Size.Rows, Columns: t.Size.Columns, Term: t.Term,
		}
		if !utf8.Valid(t.Output) {
			j.Output.RawText = t.Output
		}
	}
	return j
}

// addressText is an address; empty if it is not known.
func addressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// keyLine is a public key as authorized_keys and known_hosts have it.
func keyLine(key ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
}
