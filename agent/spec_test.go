//go:build linux

package agent

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// fullSpec has every field set but those that exclude others, and the
// environment, which never comes back.
func fullSpec() *guestdv1.ProcessSpec {
	return &guestdv1.ProcessSpec{
		Id: "id", Args: []string{"prog", "arg"}, Shell: "/bin/sh", Login: true, CleanEnv: true,
		Cwd: "/tmp", User: "root", Stdin: true,
		Stdout:   guestdv1.OutputMode_OUTPUT_MODE_STREAM,
		Stderr:   guestdv1.OutputMode_OUTPUT_MODE_MERGE,
		Terminal: &guestdv1.Terminal{Size: &guestdv1.TerminalSize{Rows: 1, Columns: 2, WidthPixels: 3, HeightPixels: 4}, Term: "vt100", Modes: map[uint32]uint32{53: 0}},
		Rlimits:  []*guestdv1.Rlimit{{Resource: "nofile", Soft: 1, Hard: 2}, {Resource: "core"}},
		Limits:   &guestdv1.ResourceLimits{MemoryBytes: 1, SwapBytes: new(uint64(0)), Pids: 2, CpuMillis: 3, CpuWeight: 4},
		Timeout:  durationpb.New(time.Second), KillGrace: durationpb.New(0), OutputBufferBytes: 65536,
		Nice: new(int32(5)), Umask: new(uint32(0o27)), OomScoreAdj: new(int32(-3)),
		Labels: map[string]string{"a": "b"},
	}
}

// TestSpecRoundTrip: what a spec says is what Get tells of it.
func TestSpecRoundTrip(t *testing.T) {
	want := fullSpec()
	spec, err := specOf(want)
	if err != nil {
		t.Fatal(err)
	}
	got := specMessage(spec, proc.Info{ID: spec.ID, Dir: spec.Dir, User: spec.User})
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}

	// A field that is added to the contract must be added here, too.
	fields := want.ProtoReflect().Descriptor().Fields()
	elsewhere := map[string]bool{"raw_args": true, "script": true, "env": true, "raw_env": true, "raw_cwd": true}
	for i := range fields.Len() {
		f := fields.Get(i)
		if !want.ProtoReflect().Has(f) && !elsewhere[string(f.Name())] {
			t.Errorf("field %s is not tested", f.Name())
		}
	}
}

// TestSpecSame: specs that say the same are equal, however the maps are
// walked, as proc decides by that whether an id is taken by another.
func TestSpecSame(t *testing.T) {
	env := map[string]string{"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}
	raw := map[string][]byte{"A": []byte("\xff"), "F": []byte("6")}
	want := []string{"A=\xff", "B=2", "C=3", "D=4", "E=5", "F=6"}
	for range 20 {
		got, err := envOf("env", env, raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if len(got) != len(want) || got[i] != want[i] {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}

func TestSpecEnvNames(t *testing.T) {
	for _, name := range []string{"", "A=B", "=", "A\x00"} {
		for _, m := range []*guestdv1.ProcessSpec{
			{Args: []string{"true"}, Env: map[string]string{name: "x"}},
			{Args: []string{"true"}, RawEnv: map[string][]byte{name: []byte("x")}},
		} {
			spec, err := specOf(m)
			wantFailure(t, statusError(err), codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
			if err == nil {
				t.Errorf("%q became %q", name, spec.Env)
			}
		}
	}
}

// FuzzSpec: whatever a client sends is refused or understood.
func FuzzSpec(f *testing.F) {
	seed, err := proto.Marshal(fullSpec())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		m := new(guestdv1.ProcessSpec)
		if proto.Unmarshal(encoded, m) != nil {
			t.Skip()
		}
		spec, err := specOf(m)
		if err != nil {
			return
		}
		if _, err := proto.Marshal(specMessage(spec, proc.Info{ID: spec.ID, Dir: spec.Dir, User: spec.User})); err != nil {
			t.Errorf("%v cannot be told: %v", m, err)
		}
	})
}
