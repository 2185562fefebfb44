//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
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
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "sftp-server": // where the small SSH server looks for it
				_, err := os.Stat("/usr/lib/openssh/sftp-server")
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
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
			env.Setenv(doorVariable, "unix:"+filepath.Join(filepath.Dir(socket), doorName))
			env.Setenv("GORACE", raceOptions)
			return nil
		},
	})
}
