package client

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func fullSpec() Spec {
	return Spec{
		ID: "id", Args: []string{"a", "b"}, Script: "s", Shell: "/sh", Login: true,
		CleanEnv: true, Dir: "/d", User: "u", OpenStdin: true,
		DiscardStdout: true, MergeStderr: true,
		Terminal: &Terminal{Size: TerminalSize{Rows: 1, Columns: 2, Width: 3, Height: 4}, Term: "t"},
		Rlimits:  []Rlimit{{"nofile", 1, Unlimited}},
		Limits:   Limits{Memory: 1, Swap: new(int64(2)), Pids: 3, CPUMillis: 4, CPUWeight: 5},
		Timeout:  time.Second, KillGrace: 2 * time.Second, OutputBuffer: 3,
		Nice: 4, Umask: new(uint32(0)), OOMScoreAdj: 5, Labels: map[string]string{"a": "b"},
	}
}

func TestSpecThereAndBack(t *testing.T) {
	want := fullSpec()
	wire, err := want.toWire()
	if err != nil {
		t.Fatal(err)
	}
	if got := specFromWire(wire); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The kernel has 16 bits for each; what an agent says beyond that is cut, and does
// not wrap around.
func TestSizeFromWireIsCut(t *testing.T) {
	got := sizeFromWire(&guestdv1.TerminalSize{Rows: 1 << 16, Columns: 80, WidthPixels: 1<<32 - 1})
	if want := (TerminalSize{Rows: 65535, Columns: 80, Width: 65535}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A tree may have millions of files: the end of the context ends adding them up.
func TestTreeSizeEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := treeSize(t.Context(), dir); got != 5 {
		t.Errorf("got %d", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := treeSize(ctx, dir); got != 0 {
		t.Errorf("after the end of the context: %d", got)
	}
}

// A field that the contract gains must not be forgotten here.
func TestSpecFillsEveryField(t *testing.T) {
	spec := fullSpec()
	spec.Env = []string{"A=1", "B=\xff"}
	spec.Terminal.Modes = map[uint8]uint32{53: 0}
	plain, err := spec.toWire()
	if err != nil {
		t.Fatal(err)
	}
	spec.Args, spec.Dir = []string{"\xff"}, "\xff"
	raw, err := spec.toWire()
	if err != nil {
		t.Fatal(err)
	}
	fields := plain.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !plain.ProtoReflect().Has(field) && !raw.ProtoReflect().Has(field) {
			t.Errorf("%s is never set", field.Name())
		}
	}
	terminal := plain.GetTerminal().ProtoReflect()
	for i := range terminal.Descriptor().Fields().Len() {
		if field := terminal.Descriptor().Fields().Get(i); !terminal.Has(field) {
			t.Errorf("%s is never set", field.FullName())
		}
	}
}

func TestWatchTypesAreTheContracts(t *testing.T) {
	values := guestdv1.WatchEventType(0).Descriptor().Values()
	for i := range values.Len() {
		number := values.Get(i).Number()
		if number == 0 {
			continue
		}
		want := string(values.Get(i).Name()[len("WATCH_EVENT_TYPE_"):])
		if got := WatchEventType(number).String(); !strings.EqualFold(got, want) {
			t.Errorf("%d is %s, want %s", number, got, want)
		}
	}
}

func TestExitStatusText(t *testing.T) {
	tests := map[string]*guestdv1.ProcessExit{
		"exit status 0":               {},
		"exit status 3 (timed out)":   {Code: 3, TimedOut: true},
		"signal KILL (out of memory)": {Signal: 9, SignalName: "SIGKILL", OutOfMemory: &guestdv1.OutOfMemory{}},
		"signal SEGV (core dumped)":   {Signal: 11, SignalName: "SIGSEGV", CoreDumped: true},
		"signal 40":                   {Signal: 40},
	}
	for want, wire := range tests {
		if got := exitFromWire(wire).String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
