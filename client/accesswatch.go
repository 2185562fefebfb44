package client

import (
	"context"
	"iter"
	"net/netip"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// SSHWatchOptions says what to report besides who connects, what they run and
// when they leave.
type SSHWatchOptions struct {
	Terminals bool // what terminals show
	Files     bool // each file operation of sftp
	// Asciicast reports what terminals show as lines of an asciicast version 2,
	// in SSHTerminalData.Cast. It implies Terminals.
	Asciicast bool
}

// SSHEventType is a kind of event.
type SSHEventType int

// Kinds of events, and the fields that each has besides the common ones.
const (
	SSHConnected    SSHEventType = iota + 1 // a client was let in
	SSHRefused                              // Reason
	SSHExec                                 // Channel, Command as asked for, TTY
	SSHShell                                // Channel, TTY
	SSHSubsystem                            // Channel, Command is its name
	SSHChannelEnded                         // Channel, Reason: "exit 1", "signal TERM"
	SSHForward                              // Target; Reason if it was refused or failed
	SSHListen                               // Target; Reason if it was refused or failed
	SSHFile                                 // Channel, Command is the operation, Target the path, Bytes; Reason if it failed
	SSHTerminal                             // Channel, Terminal
	SSHClosed                               // Reason, Received, Sent
	SSHGranted                              // a grant was made
	SSHRevoked                              // a grant was revoked
)

// String returns the kind in lower case.
func (t SSHEventType) String() string {
	names := [...]string{
		"unknown", "connected", "refused", "exec", "shell", "subsystem", "ended", "forward", "listen", "file",
		"terminal", "closed", "granted", "revoked",
	}
	if t < 0 || int(t) >= len(names) {
		return names[0] // an agent that is newer
	}
	return names[t]
}

// SSHEvent is something that happened at the guest's SSH server. It never holds
// a credential. Its strings come from the guest as they are: escape them before
// they are shown on a terminal. Those that an SSH client chose are cut at 4 KiB.
type SSHEvent struct {
	Type    SSHEventType
	Time    time.Time      // in the guest's time
	Session string         // id; empty for grants
	Grant   string         // id; empty if a client was refused without one
	Label   string         // the grant's
	User    string         // Linux user
	Client  netip.AddrPort // the grant's; invalid where it is not known
	Peer    string         // the transport's name of the peer

	Channel  string // names one channel of the session
	Command  string
	Target   string
	Reason   string
	TTY      bool
	Bytes    uint64
	Received uint64 // bytes from the client
	Sent     uint64 // bytes to it
	Terminal *SSHTerminalData

	// Missed is how many events were lost before this one because the watcher
	// read too slowly.
	Missed uint64
}

// SSHTerminalData is what a terminal showed, or its size.
type SSHTerminalData struct {
	Start  bool          // the channel's first
	Offset time.Duration // since the channel's start
	Output []byte        // bytes to the client
	Size   TerminalSize  // at the start, and when it changes; else zero
	Term   string        // TERM, at the start
	// Cast is zero or more whole lines of an asciicast. Those of one channel of
	// one session, put together in order, are a complete file.
	Cast []byte
}

// SSHWatch reports what happens at the guest's SSH server. It is for one
// goroutine; to end a Next that waits, cancel the context it was made with.
type SSHWatch struct {
	client *Client
	cancel context.CancelFunc
	call   guestdv1.AccessService_WatchSessionsClient
}

// WatchSSH begins to watch. Once it has returned, no event is missed without
// being counted. The caller must close the watch; the end of ctx ends it as
// well. It does not outlive its connection: after [ErrUnavailable], watch again
// and list grants and sessions again.
func (c *Client) WatchSSH(ctx context.Context, o SSHWatchOptions) (*SSHWatch, error) {
	callCtx, cancel := context.WithCancel(ctx)
	call, err := c.access.WatchSessions(callCtx, &guestdv1.WatchSessionsRequest{
		Terminals: o.Terminals, Files: o.Files, Asciicast: o.Asciicast,
	})
	var first *guestdv1.WatchSessionsResponse
	if err == nil {
		first, err = call.Recv()
		err = unexpectedEOF(err)
	}
	if err == nil && first.GetReady() == nil {
		err = protocolError("no ready at the beginning of a watch")
	}
	if err != nil {
		cancel()
		return nil, c.mapError("watch sessions", "", err)
	}
	return &SSHWatch{client: c, cancel: cancel, call: call}, nil
}

// Next returns the next event. The agent ends a watch by itself only when it
// shuts down, which is [ErrShuttingDown].
func (w *SSHWatch) Next() (SSHEvent, error) {
	for {
		response, err := w.call.Recv()
		if err = unexpectedEOF(err); err != nil {
			return SSHEvent{}, w.client.mapError("watch sessions", "", err)
		}
		// Anything else comes from a newer agent.
		if event := response.GetEvent(); event != nil {
			return sshEventFromWire(event), nil
		}
	}
}

// Events calls Next until it fails; the last pair is its error.
func (w *SSHWatch) Events() iter.Seq2[SSHEvent, error] {
	return func(yield func(SSHEvent, error) bool) {
		for {
			event, err := w.Next()
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the watch.
func (w *SSHWatch) Close() error {
	w.cancel()
	return nil
}

func sshEventFromWire(m *guestdv1.SessionEvent) SSHEvent {
	e := SSHEvent{
		// Both sides number the kinds in the same order.
		Type: SSHEventType(m.GetType()), Time: timeFromWire(m.GetTime()),
		Session: m.GetSessionId(), Grant: m.GetGrantId(), Label: m.GetLabel(), User: m.GetUser(),
		Client: addressFromWire(m.GetClientAddress()), Peer: m.GetPeer(), Channel: m.GetChannel(),
		Command: m.GetCommand(), Target: m.GetTarget(), Reason: m.GetReason(), TTY: m.GetTty(),
		Bytes: m.GetBytes(), Received: m.GetReceivedBytes(), Sent: m.GetSentBytes(), Missed: m.GetMissed(),
	}
	if t := m.GetTerminal(); t != nil {
		e.Terminal = &SSHTerminalData{
			Start: t.GetStart(), Offset: t.GetOffset().AsDuration(), Output: t.GetOutput(),
			Size: sizeFromWire(t.GetSize()), Term: t.GetTerm(), Cast: t.GetCast(),
		}
	}
	return e
}
