//go:build linux

package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// watchCoalesce is how long changes are gathered after the first, so that a
// file that is written in a thousand pieces is reported a few times.
const watchCoalesce = 10 * time.Millisecond

// watchBatch is the most changes in one message; with the longest paths they
// stay below 1 MiB.
const watchBatch = 100

// Watch implements guestd.v1.FileService.
func (s *fileService) Watch(req *guestdv1.WatchRequest, stream grpc.ServerStreamingServer[guestdv1.WatchResponse]) error {
	view, path, err := s.target(req)
	if err != nil {
		return err
	}
	kinds, err := watchKinds(req.GetTypes())
	if err != nil {
		return err
	}
	ctx := stream.Context()
	watcher, err := view.Watch(ctx, path, fsops.WatchOptions{
		Recursive: req.GetRecursive(),
		Kinds:     kinds,
		Exclude:   req.GetExclude(),
		Coalesce:  watchCoalesce,
	})
	if err != nil {
		return err
	}
	defer release(watcher)
	ready := &guestdv1.WatchReady{Directories: uint32(watcher.Directories())}
	if err := stream.Send(&guestdv1.WatchResponse{Event: &guestdv1.WatchResponse_Ready{Ready: ready}}); err != nil {
		return err
	}
	return sendChanges(ctx, watcher, stream.Send)
}

// sendChanges sends what watcher sees, until the watched path is gone.
func sendChanges(ctx context.Context, watcher *fsops.Watcher, send func(*guestdv1.WatchResponse) error) error {
	for {
		events, err := watcher.Next(ctx)
		for len(events) > 0 {
			var resp *guestdv1.WatchResponse
			resp, events = nextChanges(events)
			if err := send(resp); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// nextChanges makes one message of the first events, and returns the rest.
func nextChanges(events []fsops.Event) (*guestdv1.WatchResponse, []fsops.Event) {
	switch events[0].Kind {
	case fsops.EventOverflow:
		return &guestdv1.WatchResponse{Event: &guestdv1.WatchResponse_Overflow{Overflow: &guestdv1.WatchOverflow{}}}, events[1:]
	case fsops.EventGone:
		return &guestdv1.WatchResponse{Event: &guestdv1.WatchResponse_Gone{Gone: &guestdv1.WatchGone{}}}, events[1:]
	}
	changes := &guestdv1.WatchChanges{}
	for len(events) > 0 && len(changes.Changes) < watchBatch {
		event := &events[0]
		if event.Kind == fsops.EventOverflow || event.Kind == fsops.EventGone {
			break
		}
		change := &guestdv1.WatchChange{Type: watchType(event.Kind), Directory: event.IsDir}
		change.Path, change.RawPath = wirePath(event.Path)
		change.OldPath, change.RawOldPath = wirePath(event.From)
		changes.Changes = append(changes.Changes, change)
		events = events[1:]
	}
	return &guestdv1.WatchResponse{Event: &guestdv1.WatchResponse_Changes{Changes: changes}}, events
}

// watchTypes pairs the kinds of change.
var watchTypes = []struct {
	wire guestdv1.WatchEventType
	kind fsops.EventKind
}{
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_CREATED, fsops.EventCreate},
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_MODIFIED, fsops.EventModify},
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_CLOSED, fsops.EventCloseWrite},
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_ATTRIBUTES, fsops.EventAttrib},
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_REMOVED, fsops.EventRemove},
	{guestdv1.WatchEventType_WATCH_EVENT_TYPE_RENAMED, fsops.EventRename},
}

// watchType is the kind of change on the wire.
func watchType(kind fsops.EventKind) guestdv1.WatchEventType {
	for _, pair := range watchTypes {
		if pair.kind == kind {
			return pair.wire
		}
	}
	return guestdv1.WatchEventType_WATCH_EVENT_TYPE_UNSPECIFIED
}

// watchKinds translates the asked-for types; none are all.
func watchKinds(types []guestdv1.WatchEventType) ([]fsops.EventKind, error) {
	var kinds []fsops.EventKind
	for _, pair := range watchTypes {
		if len(types) == 0 {
			kinds = append(kinds, pair.kind)
		}
	}
	for _, asked := range types {
		found := false
		for _, pair := range watchTypes {
			if pair.wire == asked {
				kinds = append(kinds, pair.kind)
				found = true
			}
		}
		if !found {
			return nil, invalidRequest("types: %d is not known", asked)
		}
	}
	return kinds, nil
}
