package main

import (
	"time"

	"github.com/guestd/guestd/client"
)

// jsonProcess is a process as --json prints it; jsonHelp documents it.
type jsonProcess struct {
	ID          string            `json:"id"`
	Handle      string            `json:"handle"`
	PID         int               `json:"pid"`
	State       string            `json:"state"`
	Args        []string          `json:"args,omitempty"`
	RawArgs     [][]byte          `json:"raw_args,omitempty"`
	Script      string            `json:"script,omitempty"`
	User        string            `json:"user,omitempty"`
	Dir         string            `json:"dir,omitempty"`
	RawDir      []byte            `json:"raw_dir,omitempty"`
	Terminal    bool              `json:"terminal"`
	Stdin       bool              `json:"stdin"`
	StartTime   time.Time         `json:"start_time"`
	Exit        *jsonExit         `json:"exit,omitempty"`
	Stdout      jsonRange         `json:"stdout"`
	Stderr      jsonRange         `json:"stderr"`
	Subscribers int               `json:"subscribers"`
	Labels      map[string]string `json:"labels,omitempty"`
}

type jsonRange struct {
	Oldest uint64 `json:"oldest"`
	End    uint64 `json:"end"`
}

func newJSONProcess(p *client.ProcessInfo) jsonProcess {
	j := jsonProcess{
		ID:          p.ID,
		Handle:      p.Handle,
		PID:         p.PID,
		State:       "running",
		Args:        p.Spec.Args,
		Script:      p.Spec.Script,
		User:        p.Spec.User,
		Dir:         p.Spec.Dir,
		RawDir:      raw(p.Spec.Dir),
		Terminal:    p.Spec.Terminal != nil,
		Stdin:       p.Spec.OpenStdin,
		StartTime:   p.Start,
		Exit:        newJSONExit(p.Exit),
		Stdout:      jsonRange{p.Stdout.Oldest, p.Stdout.End},
		Stderr:      jsonRange{p.Stderr.Oldest, p.Stderr.End},
		Subscribers: p.Subscribers,
		Labels:      p.Spec.Labels,
	}
	if !p.Running() {
		j.State = "exited"
	}
	for _, arg := range p.Spec.Args {
		if raw(arg) != nil {
			for _, arg := range p.Spec.Args {
				j.RawArgs = append(j.RawArgs, []byte(arg))
			}
			break
		}
	}
	return j
}

// jsonExit is how a process ended.
type jsonExit struct {
	Code         *int      `json:"code,omitempty"`
	Signal       string    `json:"signal,omitempty"`
	SignalNumber int       `json:"signal_number,omitempty"`
	CoreDumped   bool      `json:"core_dumped,omitempty"`
	TimedOut     bool      `json:"timed_out,omitempty"`
	OutOfMemory  *jsonOOM  `json:"out_of_memory,omitempty"`
	EndTime      time.Time `json:"end_time,omitzero"`
	Duration     float64   `json:"duration"`
	UserTime     float64   `json:"user_time"`
	SystemTime   float64   `json:"system_time"`
	MaxRSS       int64     `json:"max_rss"`
	OutputHeld   bool      `json:"output_held,omitempty"`
}

type jsonOOM struct {
	Scope string `json:"scope,omitempty"`
	Kills int64  `json:"kills"`
	Peak  int64  `json:"peak,omitempty"`
}

func newJSONExit(s *client.ExitStatus) *jsonExit {
	if s == nil {
		return nil
	}
	j := &jsonExit{
		Signal:       string(s.Signal),
		SignalNumber: s.SignalNumber(),
		CoreDumped:   s.CoreDumped,
		TimedOut:     s.TimedOut,
		EndTime:      s.End,
		Duration:     s.Duration.Seconds(),
		UserTime:     s.UserTime.Seconds(),
		SystemTime:   s.SystemTime.Seconds(),
		MaxRSS:       s.MaxRSS,
		OutputHeld:   s.OutputHeld,
	}
	if s.Signal == "" {
		j.Code = &s.Code
	}
	if s.OOM != nil {
		j.OutOfMemory = &jsonOOM{string(s.OOM.Scope), s.OOM.Kills, s.OOM.Peak}
	}
	return j
}
