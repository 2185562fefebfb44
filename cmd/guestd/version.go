//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
)

// version is set by the linker; see the Makefile.
var version = ""

// buildVersion is the linker's version, or the module's where the binary was
// made by `go install`.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// printVersion is `guestd version`. Its --json has the keys of guestctl's.
func printVersion(args []string, stdout io.Writer) error {
	switch {
	case len(args) == 0:
		_, err := fmt.Fprintf(stdout, "guestd %s %s/%s %s\n", buildVersion(), runtime.GOOS, runtime.GOARCH, runtime.Version())
		return err
	case slices.Equal(args, []string{"--json"}):
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(map[string]string{
			"version":      buildVersion(),
			"os":           runtime.GOOS,
			"architecture": runtime.GOARCH,
			"go":           runtime.Version(),
		})
	}
	return usageError{fmt.Errorf("version takes no arguments but --json: %q", args[0])}
}
