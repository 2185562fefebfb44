package priolog

import (
	"bytes"
	"log/slog"
	"testing"
)

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{}, "<6>msg=one a=1 k=\"v w\"\n<4>msg=\"two\\nlines\" a=1\n<3>msg=three a=1 g.level=x\n"},
		{
			Options{Prefix: "me: ", Info: PriorityNotice, Level: slog.LevelDebug},
			"<7>me: msg=zero a=1\n<5>me: msg=one a=1 k=\"v w\"\n<4>me: msg=\"two\\nlines\" a=1\n<3>me: msg=three a=1 g.level=x\n",
		},
	} {
		var out bytes.Buffer
		log := slog.New(NewHandler(&out, tt.options)).With("a", 1)
		log.Debug("zero")
		log.Info("one", "k", "v w")
		log.Warn("two\nlines")
		log.WithGroup("g").Error("three", "level", "x")
		if out.String() != tt.want {
			t.Errorf("%+v: got\n%s\nwant\n%s", tt.options, out.String(), tt.want)
		}
	}
}
