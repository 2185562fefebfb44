//go:build linux

package agent

import (
	"context"
	"regexp"

	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// maxMatched is how much of a match is sent.
const maxMatched = 64 << 10

// errWaitTimeout is the cause of a wait that gives up by itself.
var errWaitTimeout error = &callError{
	reason: guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT,
	text:   "none of the conditions came true in time",
}

// Wait waits for the first of some conditions.
func (s *processService) Wait(ctx context.Context, req *guestdv1.WaitRequest) (*guestdv1.WaitResponse, error) {
	w, err := s.waitOf(req)
	if err != nil {
		return nil, err
	}
	if req.Timeout != nil {
		timeout, err := durationOf("timeout", req.Timeout)
		if err != nil {
			return nil, err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errWaitTimeout)
		defer cancel()
	}
	match, err := s.table.WaitFor(ctx, w.conditions)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	resp := &guestdv1.WaitResponse{Condition: w.index[match.Index]}
	if output, ok := w.conditions[match.Index].(proc.OutputCondition); ok {
		resp.Matched, resp.MatchedOffset = matched(ctx, output, match.Offset)
	}
	if w.process != nil {
		if exit := w.process.Info().Exit; exit != nil {
			resp.Exit = exitMessage(exit)
		}
	}
	return resp, nil
}

// wait is a translated WaitRequest.
type wait struct {
	process    *proc.Process // nil if the request names none
	conditions []proc.Condition
	index      []uint32 // of each, in the request: one there may be two here
}

// add adds a condition that is number i in the request.
func (w *wait) add(i int, c proc.Condition) {
	w.conditions = append(w.conditions, c)
	w.index = append(w.index, uint32(i))
}

func (s *processService) waitOf(req *guestdv1.WaitRequest) (*wait, error) {
	w := new(wait)
	if req.Process != "" {
		p, err := s.process(req.Process)
		if err != nil {
			return nil, err
		}
		w.process = p
	}
	conditions := req.Conditions
	if len(conditions) == 0 {
		conditions = []*guestdv1.WaitCondition{{
			Condition: &guestdv1.WaitCondition_Exit{Exit: &guestdv1.WaitExit{}},
		}}
	}
	for i, c := range conditions {
		if err := w.translate(i, c); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// translate adds condition i of the request.
func (w *wait) translate(i int, m *guestdv1.WaitCondition) error {
	noProcess := invalidRequest("conditions[%d]: needs a process", i)
	switch c := m.GetCondition().(type) {
	case *guestdv1.WaitCondition_Exit:
		if w.process == nil {
			return noProcess
		}
		w.add(i, proc.ExitCondition{Process: w.process})
	case *guestdv1.WaitCondition_Port:
		port := c.Port.GetPort()
		if port < 1 || port > 65535 {
			return invalidRequest("conditions[%d].port: %d is not between 1 and 65535", i, port)
		}
		condition := proc.PortCondition{Port: uint16(port)}
		if c.Port.GetOwn() {
			if w.process == nil {
				return noProcess
			}
			condition.Process = w.process
		}
		w.add(i, condition)
	case *guestdv1.WaitCondition_Output:
		if w.process == nil {
			return noProcess
		}
		return w.translateOutput(i, c.Output)
	case *guestdv1.WaitCondition_File:
		path := c.File.GetPath()
		if raw := c.File.GetRawPath(); len(raw) > 0 {
			path = string(raw)
		}
		w.add(i, proc.FileCondition{Path: path})
	case *guestdv1.WaitCondition_Http:
		status := int(c.Http.GetStatus())
		w.add(i, proc.HTTPCondition{URL: c.Http.GetUrl(), MinStatus: status, MaxStatus: status})
	default:
		return invalidRequest("conditions[%d]: is empty or not known to this agent", i)
	}
	return nil
}

func (w *wait) translateOutput(i int, m *guestdv1.WaitOutput) error {
	pattern, err := regexp.Compile(m.GetPattern())
	if err != nil {
		return invalidRequest("conditions[%d].pattern: %v", i, err)
	}
	from, err := offsetOf("offset", m.GetOffset())
	if err != nil {
		return err
	}
	condition := proc.OutputCondition{Process: w.process, From: from, Pattern: pattern}
	streams := []proc.Stream{proc.Stdout, proc.Stderr}
	switch m.GetStream() {
	case guestdv1.OutputStream_OUTPUT_STREAM_UNSPECIFIED:
	case guestdv1.OutputStream_OUTPUT_STREAM_STDOUT:
		streams = streams[:1]
	case guestdv1.OutputStream_OUTPUT_STREAM_STDERR:
		streams = streams[1:]
	default:
		return invalidRequest("conditions[%d].stream: no stream %v", i, m.GetStream())
	}
	for _, stream := range streams {
		condition.Stream = stream
		w.add(i, condition)
	}
	return nil
}

// matched finds, in what is still kept of the output, the match that was
// complete at offset end: the search itself keeps nothing. It returns the
// empty match at end if the process has already overwritten it.
func matched(ctx context.Context, c proc.OutputCondition, end uint64) ([]byte, uint64) {
	opts := proc.SubscribeOptions{Stdout: proc.NoStream, Stderr: proc.NoStream}
	info := c.Process.Info()
	begin := max(c.From, int64(end)-maxMatched)
	if c.Stream == proc.Stderr {
		begin = max(begin, int64(info.Stderr.Start))
		opts.Stderr = begin
	} else {
		begin = max(begin, int64(info.Stdout.Start))
		opts.Stdout = begin
	}
	if begin >= int64(end) {
		return nil, end
	}
	sub, err := c.Process.Subscribe(opts)
	if err != nil {
		return nil, end
	}
	defer func() { _ = sub.Close() }()
	kept := make([]byte, 0, int(end)-int(begin))
	for len(kept) < cap(kept) {
		ev, err := sub.Next(ctx, kept[len(kept):cap(kept)])
		if err != nil || ev.Gap > 0 {
			return nil, end
		}
		kept = kept[:len(kept)+len(ev.Data)]
	}
	at := c.Pattern.FindIndex(kept)
	if at == nil {
		return nil, end
	}
	return kept[at[0]:at[1]], uint64(begin) + uint64(at[0])
}
