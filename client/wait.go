package client

import (
	"context"

	"google.golang.org/grpc"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Condition is something that the agent can wait for: a [WaitExit], [WaitPort],
// [WaitOutput], [WaitFile] or [WaitHTTP].
type Condition interface {
	toWire() *guestdv1.WaitCondition
}

// WaitExit is the process's end.
type WaitExit struct{}

// WaitPort is a TCP port that somebody listens on in the guest.
type WaitPort struct {
	Port uint16
	Own  bool // only a listener that belongs to the process's tree
}

// WaitOutput is a pattern in the process's output.
type WaitOutput struct {
	// Pattern is in RE2 syntax, matched against bytes. It comes true as soon as
	// it can: of `port \d+` the first digit is enough.
	Pattern string
	Stream  Stream // default: either
	From    uint64 // absolute offset to begin at; default: the oldest byte kept
}

// WaitFile is a path that exists.
type WaitFile struct {
	Path string // absolute
}

// WaitHTTP is a GET from inside the guest that gives a status.
type WaitHTTP struct {
	URL    string // http, of an address of the guest itself
	Status int    // default: any from 200 to 399
}

func (WaitExit) toWire() *guestdv1.WaitCondition {
	return &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Exit{Exit: &guestdv1.WaitExit{}}}
}

func (w WaitPort) toWire() *guestdv1.WaitCondition {
	return &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Port{
		Port: &guestdv1.WaitPort{Port: uint32(w.Port), Own: w.Own},
	}}
}

func (w WaitOutput) toWire() *guestdv1.WaitCondition {
	output := &guestdv1.WaitOutput{Pattern: w.Pattern, Stream: w.Stream.toWire(), Offset: w.From}
	return &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Output{Output: output}}
}

func (w WaitFile) toWire() *guestdv1.WaitCondition {
	file := &guestdv1.WaitFile{}
	file.Path, file.RawPath = toWire(w.Path)
	return &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_File{File: file}}
}

func (w WaitHTTP) toWire() *guestdv1.WaitCondition {
	return &guestdv1.WaitCondition{Condition: &guestdv1.WaitCondition_Http{
		Http: &guestdv1.WaitHttp{Url: w.URL, Status: uint32(w.Status)},
	}}
}

// WaitResult says what ended a wait.
type WaitResult struct {
	Condition int         // index of the condition that came true
	Exit      *ExitStatus // the process's, if it has ended
	Matched   []byte      // what a WaitOutput matched, at most 64 KiB
	Offset    uint64      // of Matched, absolute
}

// Wait returns when the first of the conditions is true; without one, when the
// process has ended. The agent watches; the client does not poll. It waits as
// long as ctx allows, across broken connections too. The end of the process,
// with whatever code, is not an error.
func (p *Process) Wait(ctx context.Context, conditions ...Condition) (WaitResult, error) {
	request := &guestdv1.WaitRequest{Process: p.key()}
	for _, condition := range conditions {
		request.Conditions = append(request.Conditions, condition.toWire())
	}
	response, err := retry(ctx, p.client, func(o ...grpc.CallOption) (*guestdv1.WaitResponse, error) {
		return p.client.process.Wait(ctx, request, o...)
	})
	if err != nil {
		return WaitResult{}, p.mapError("wait for", err)
	}
	return WaitResult{
		Condition: int(response.GetCondition()),
		Exit:      exitFromWire(response.GetExit()),
		Matched:   response.GetMatched(),
		Offset:    response.GetMatchedOffset(),
	}, nil
}

// WaitFor returns when the first of the conditions is true, none of which may
// be about a process.
func (c *Client) WaitFor(ctx context.Context, conditions ...Condition) (WaitResult, error) {
	return c.Process("").Wait(ctx, conditions...)
}
