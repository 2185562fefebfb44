package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The Go that is here has all that is patched.
func TestOverlay(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command:", err)
	}
	path, err := writeOverlay(strings.TrimSpace(string(goroot)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(b, &overlay); err != nil {
		t.Fatal(err)
	}
	if len(overlay.Replace) != 5 {
		t.Errorf("%d files", len(overlay.Replace))
	}
	for file, changed := range overlay.Replace {
		if _, err := parser.ParseFile(token.NewFileSet(), changed, nil, parser.AllErrors); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestUnknownLevel(t *testing.T) {
	if err := run(t.Context(), "hard", nil); err == nil || !strings.Contains(err.Error(), `"hard" is none of short, often, long`) {
		t.Error(err)
	}
}
