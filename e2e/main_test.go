//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/microvm"
	"github.com/guestd/guestd/vsock"
)

const (
	enableVariable = "GUESTD_E2E"

	// bootLimit is generous: two emulated processors on a busy machine.
	bootLimit = 5 * time.Minute

	// answerLimit bounds one request to a guest that is up.
	answerLimit = 2 * time.Minute
)

// programs are the paths of what is under test, as it is shipped.
type programs struct{ guestd, guestctl string }

// built and shared are set by TestMain, before any test, and only read after.
var (
	built  programs
	shared *microvm.VM // nil where the tests are not enabled
)

func TestMain(m *testing.M) {
	if os.Getenv(enableVariable) == "" {
		os.Exit(m.Run()) // they skip
	}
	status, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

// runAll runs the tests around one VM.
func runAll(m *testing.M) (status int, err error) {
	dir, err := os.MkdirTemp("", "guestd-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	built = programs{filepath.Join(dir, "guestd"), filepath.Join(dir, "guestctl")}
	for _, program := range []string{built.guestd, built.guestctl} {
		if err := build(program); err != nil {
			return 1, err
		}
	}
	start := time.Now()
	if shared, err = boot(microvm.Config{}); err != nil {
		return 1, err
	}
	defer shared.Kill()
	fmt.Printf("e2e: %s, ready after %v\n", shared.AccelDescription(), time.Since(start).Round(time.Millisecond))
	status = m.Run()
	if status != 0 {
		fmt.Printf("e2e: console of the shared VM:\n%s\n", shared.Console())
	}
	return status, nil
}

// build makes one program as the Makefile does.
func build(program string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w",
		"-o", program, "github.com/guestd/guestd/cmd/"+filepath.Base(program))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// boot starts a guest with the programs under test.
func boot(cfg microvm.Config) (*microvm.VM, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	cfg.Guestd = built.guestd
	cfg.ExtraFiles = map[string]string{"/usr/bin/guestctl": built.guestctl}
	// A guest's own processes could reach the agent by the loopback transport,
	// so it has to be there to see that they cannot.
	cfg.Modules = append(cfg.Modules, "vsock_loopback!")
	return microvm.Start(ctx, cfg)
}

// requireVM skips the test where the tests are not enabled. It returns the VM
// that all tests share: they must leave it as they find it.
func requireVM(t *testing.T) *microvm.VM {
	t.Helper()
	if shared == nil {
		t.Skipf("boots a microVM: set %s=1, or run `make e2e`", enableVariable)
	}
	return shared
}

// ownVM boots a VM that a test may end or break.
func ownVM(t *testing.T, cfg microvm.Config) *microvm.VM {
	t.Helper()
	requireVM(t)
	vm, err := boot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", vm.Console())
		}
	})
	return vm
}

// dialer returns the dial function for the agent of a VM.
func dialer(t *testing.T, vm *microvm.VM) func(context.Context) (net.Conn, error) {
	t.Helper()
	addr, err := vsock.ParseAddr(vm.Addr(microvm.PortAgent))
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, addr) }
}

// connect returns a client of the agent of a VM.
func connect(t *testing.T, vm *microvm.VM) *client.Client {
	t.Helper()
	c, err := client.New(dialer(t, vm), client.Config{Name: vm.Addr(microvm.PortAgent)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sh runs a script in a guest and returns its output, trimmed. A status other
// than 0 is part of it.
func sh(t *testing.T, c *client.Client, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	out, err := c.Command("/bin/sh", "-c", script).CombinedOutput(ctx)
	text := strings.TrimSpace(string(out))
	var exit *client.ExitError
	switch {
	case errors.As(err, &exit):
		text += fmt.Sprintf(" (%v)", exit)
	case err != nil:
		t.Fatalf("%s: %v\n%s", script, err, text)
	}
	return text
}
