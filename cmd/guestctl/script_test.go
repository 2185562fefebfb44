//go:build linux

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                scriptCommands(),
		Condition: func(name string) (bool, error) {
			return name == "root" && os.Geteuid() == 0, nil
		},
		Setup: func(env *testscript.Env) error {
			socket, stop, err := serveAgent()
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := stop(); err != nil {
					env.T().Log(err)
				}
			})
			env.Setenv(agentVariable, "unix:"+socket)
			env.Setenv("GORACE", raceOptions)
			return nil
		},
	})
}
