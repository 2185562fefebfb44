package client

import (
	"context"
	"errors"
	"io"
	"iter"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// WatchOptions says what to watch.
type WatchOptions struct {
	Recursive bool             // everything below too, including directories made later
	Exclude   []string         // patterns as WalkOptions.Exclude
	Types     []WatchEventType // default: all
}

// WatchEventType is a kind of change.
type WatchEventType int

// Kinds of changes.
const (
	Created    WatchEventType = iota + 1 // came into being, or was moved in
	Modified                             // content changed; several in a row may be reported as one
	Closed                               // was closed after being open for writing
	Attributes                           // permissions, owner, times or link count changed
	Removed                              // went away, or was moved out
	Renamed                              // was moved within; OldPath says from where

	Overflow WatchEventType = -1 // changes were lost: look at everything again
	Gone     WatchEventType = -2 // the watched path itself is gone; nothing follows
)

// String returns the kind in lower case.
func (t WatchEventType) String() string {
	switch t {
	case Created:
		return "created"
	case Modified:
		return "modified"
	case Closed:
		return "closed"
	case Attributes:
		return "attributes"
	case Removed:
		return "removed"
	case Renamed:
		return "renamed"
	case Overflow:
		return "overflow"
	case Gone:
		return "gone"
	default:
		return "unknown"
	}
}

// WatchEvent is one change.
type WatchEvent struct {
	Type    WatchEventType
	Path    string // relative to the watched one; "." is itself
	OldPath string // of Renamed
	IsDir   bool
}

// Watch reports changes in the guest. It is for one goroutine; to end a Next
// that waits, cancel the context it was made with.
type Watch struct {
	client      *Client
	cancel      context.CancelFunc
	call        guestdv1.FileService_WatchClient
	path        string
	directories int
	pending     []WatchEvent
}

// Watch begins to watch a file, a directory or a tree. Once it has returned, no
// change is missed without an Overflow. The caller must close the watch; the end
// of ctx ends it as well. It does not outlive its connection: after
// [ErrUnavailable], watch again and look at everything again.
func (f *Files) Watch(ctx context.Context, path string, o WatchOptions) (*Watch, error) {
	request := &guestdv1.WatchRequest{Context: f.where(), Recursive: o.Recursive, Exclude: o.Exclude}
	request.Path, request.RawPath = toWire(path)
	for _, t := range o.Types {
		// Both sides number the kinds in the same order.
		request.Types = append(request.Types, guestdv1.WatchEventType(t))
	}
	callCtx, cancel := context.WithCancel(ctx)
	call, err := f.client.file.Watch(callCtx, request)
	var first *guestdv1.WatchResponse
	if err == nil {
		first, err = call.Recv()
		err = unexpectedEOF(err)
	}
	if err == nil && first.GetReady() == nil {
		err = protocolError("no ready at the beginning of a watch")
	}
	if err != nil {
		cancel()
		return nil, f.client.mapError("watch", path, err)
	}
	return &Watch{
		client:      f.client,
		cancel:      cancel,
		call:        call,
		path:        path,
		directories: int(first.GetReady().GetDirectories()),
	}, nil
}

// Directories returns how many directories were watched at the beginning.
func (w *Watch) Directories() int { return w.directories }

// Next returns the next change; io.EOF after Gone.
func (w *Watch) Next() (WatchEvent, error) {
	for len(w.pending) == 0 {
		response, err := w.call.Recv()
		if errors.Is(err, io.EOF) {
			return WatchEvent{}, io.EOF
		}
		if err == nil {
			err = w.accept(response)
		}
		if err != nil {
			return WatchEvent{}, w.client.mapError("watch", w.path, err)
		}
	}
	event := w.pending[0]
	w.pending = w.pending[1:]
	return event, nil
}

func (w *Watch) accept(response *guestdv1.WatchResponse) error {
	switch e := response.GetEvent().(type) {
	case *guestdv1.WatchResponse_Changes:
		for _, c := range e.Changes.GetChanges() {
			event := WatchEvent{
				Type:    WatchEventType(c.GetType()),
				Path:    fromWire(c.GetPath(), c.GetRawPath()),
				OldPath: fromWire(c.GetOldPath(), c.GetRawOldPath()),
				IsDir:   c.GetDirectory(),
			}
			if !isBelow(event.Path) || event.OldPath != "" && !isBelow(event.OldPath) {
				return protocolError("watched path %q", event.Path)
			}
			w.pending = append(w.pending, event)
		}
	case *guestdv1.WatchResponse_Overflow:
		w.pending = append(w.pending, WatchEvent{Type: Overflow, Path: "."})
	case *guestdv1.WatchResponse_Gone:
		w.pending = append(w.pending, WatchEvent{Type: Gone, Path: "."})
	}
	return nil
}

// Events calls Next until the watched path is gone or an error; an error is the
// last pair.
func (w *Watch) Events() iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		for {
			event, err := w.Next()
			if errors.Is(err, io.EOF) || !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error {
	w.cancel()
	return nil
}
