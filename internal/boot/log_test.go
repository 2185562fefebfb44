//go:build linux

package boot

import (
	"bytes"
	"log/slog"
	"testing"
)

func TestKernelLogLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newKernelHandler(&out)).With("a", 1)
	log.Info("one", "k", "v w")
	log.Warn("two")
	log.WithGroup("g").Error("three", "level", "x")
	want := "<5>guestd: msg=one a=1 k=\"v w\"\n<4>guestd: msg=two a=1\n<3>guestd: msg=three a=1 g.level=x\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
