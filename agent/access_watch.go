//go:build linux

package agent

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// WatchSessions tells what happens.
func (s *accessService) WatchSessions(
	req *guestdv1.WatchSessionsRequest, stream grpc.ServerStreamingServer[guestdv1.WatchSessionsResponse],
) error {
	watcher, err := s.store.Watch(access.WatchOptions{Terminals: req.Terminals || req.Asciicast, Files: req.Files})
	if err != nil {
		return err
	}
	defer release(watcher)
	ready := &guestdv1.WatchSessionsResponse_Ready{Ready: &guestdv1.WatchSessionsReady{}}
	if err := stream.Send(&guestdv1.WatchSessionsResponse{Message: ready}); err != nil {
		return err
	}
	var casts *casts
	if req.Asciicast {
		casts = newCasts(s.store)
	}
	for {
		event, err := watcher.Next(stream.Context())
		if err != nil {
			return err
		}
		m := eventMessage(&event)
		if casts != nil {
			casts.record(&event, m)
		}
		resp := &guestdv1.WatchSessionsResponse{Message: &guestdv1.WatchSessionsResponse_Event{Event: m}}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// eventTypes are the kinds of events on the wire.
var eventTypes = map[access.EventKind]guestdv1.SessionEventType{
	access.EventConnected:    guestdv1.SessionEventType_SESSION_EVENT_TYPE_CONNECTED,
	access.EventRefused:      guestdv1.SessionEventType_SESSION_EVENT_TYPE_REFUSED,
	access.EventExec:         guestdv1.SessionEventType_SESSION_EVENT_TYPE_EXEC,
	access.EventShell:        guestdv1.SessionEventType_SESSION_EVENT_TYPE_SHELL,
	access.EventSubsystem:    guestdv1.SessionEventType_SESSION_EVENT_TYPE_SUBSYSTEM,
	access.EventSessionEnded: guestdv1.SessionEventType_SESSION_EVENT_TYPE_CHANNEL_ENDED,
	access.EventForward:      guestdv1.SessionEventType_SESSION_EVENT_TYPE_FORWARD,
	access.EventListen:       guestdv1.SessionEventType_SESSION_EVENT_TYPE_LISTEN,
	access.EventFile:         guestdv1.SessionEventType_SESSION_EVENT_TYPE_FILE,
	access.EventTerminal:     guestdv1.SessionEventType_SESSION_EVENT_TYPE_TERMINAL,
	access.EventClosed:       guestdv1.SessionEventType_SESSION_EVENT_TYPE_CLOSED,
	access.EventGranted:      guestdv1.SessionEventType_SESSION_EVENT_TYPE_GRANTED,
	access.EventRevoked:      guestdv1.SessionEventType_SESSION_EVENT_TYPE_REVOKED,
}

// eventMessage translates an event.
func eventMessage(e *access.Event) *guestdv1.SessionEvent {
	return &guestdv1.SessionEvent{
		Type: eventTypes[e.Kind], Time: timestamppb.New(e.Time),
		SessionId: e.Connection, GrantId: e.Grant, Label: e.Label, User: e.User,
		ClientAddress: addressText(e.Client), Peer: readable(e.Peer),
		Channel: readable(e.Session), Command: readableName(e.Command),
		Target: readableName(e.Target), Reason: readable(e.Reason),
		Tty: e.TTY, Bytes: e.Bytes, ReceivedBytes: e.Received, SentBytes: e.Sent,
		Terminal: terminalDataMessage(e.Terminal), Missed: e.Missed,
	}
}

func terminalDataMessage(t *access.TerminalEvent) *guestdv1.TerminalData {
	if t == nil {
		return nil
	}
	m := &guestdv1.TerminalData{
		Start: t.Start, Offset: durationpb.New(t.At), Output: t.Output, Term: readable(t.Term),
	}
	if t.Rows != 0 || t.Cols != 0 {
		m.Size = &guestdv1.TerminalSize{Rows: uint32(t.Rows), Columns: uint32(t.Cols)}
	}
	return m
}
