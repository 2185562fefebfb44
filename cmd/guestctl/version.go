package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker; see the Makefile.
var version = ""

func newVersion(a *app) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print guestctl's version",
		Long:              "Print guestctl's own version. That of the agent is in 'guestctl info'.",
		Args:              arguments(cobra.NoArgs),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if json {
				return a.printJSON(map[string]string{
					"version": buildVersion(), "os": runtime.GOOS, "architecture": runtime.GOARCH, "go": runtime.Version(),
				})
			}
			_, err := fmt.Fprintf(a.stdout, "guestctl %s %s/%s %s\n", buildVersion(), runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
	jsonFlag(cmd, &json)
	return cmd
}

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
