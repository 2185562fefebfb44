//go:build linux

package proc

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowdedTable is a table that always forks by its forker.
func crowdedTable(t *testing.T) *Table {
	t.Helper()
	tab := newTable(t, testConfig())
	mustWait(t, mustStart(t, tab, Spec{Args: []string{"true"}})) // makes the runtime's poller
	f, err := newForker()
	if err != nil {
		t.Skip("SKIP: no forker: ", err)
	}
	f.close()
	tab.crowd = 0
	return tab
}

// What the forker starts is as what everybody else starts: it has its three
// descriptors and no other, its place in the tree, and its end.
func TestForker(t *testing.T) {
	tab := crowdedTable(t)
	// ls has one of its own, for the directory.
	out, errs, e := run(t, tab, Spec{Script: "echo err >&2; ls /proc/self/fd", Shell: "/bin/sh"})
	if out != "0\n1\n2\n3\n" || errs != "err\n" || !e.Success() || e.OutputHeld {
		t.Errorf("got %q, %q, %+v", out, errs, e)
	}
	if _, _, e := run(t, tab, Spec{Script: "kill -USR1 $$", Shell: "/bin/sh"}); e.Signal != syscall.SIGUSR1 {
		t.Errorf("exit %+v", e)
	}
	umask := uint32(0o27)
	if out, _, _ := run(t, tab, Spec{Script: "umask", Shell: "/bin/sh", Umask: &umask}); out != "0027\n" {
		t.Errorf("by the shim: umask %q", out)
	}
	p := mustStart(t, tab, Spec{Args: []string{"cat"}, Stdin: StdinPipe})
	if _, err := p.Write(testContext(t), []byte("x")); err != nil {
		t.Error(err)
	}
	if p.cg != nil && !p.cg.contains(p.pid) {
		t.Error("it is not in its cgroup")
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Error(err)
	}
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", e)
	}
	if tab.forker == nil {
		t.Error("there is no forker")
	}
}

func TestForkerTTY(t *testing.T) {
	needTTY(t)
	tab := crowdedTable(t)
	out, _, e := run(t, tab, Spec{Args: []string{"stty", "size"}, TTY: &TTY{Size: Size{Rows: 33, Cols: 111}}})
	if out != "33 111\r\n" || !e.Success() {
		t.Errorf("got %q, %+v", out, e)
	}
}

func TestForkerStartErrors(t *testing.T) {
	tab := crowdedTable(t)
	umask := uint32(0o77)
	for _, spec := range []Spec{{Args: []string{"/no/such/program"}}, {Args: []string{"/no/such/program"}, Umask: &umask}} {
		_, _, err := tab.Start(testContext(t), spec)
		wantStartError(t, err, StageExec, fs.ErrNotExist, 127)
	}
	// The one that may not enter it is the child.
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "secret")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := tab.Start(testContext(t), Spec{Args: []string{"/bin/true"}, Dir: dir, User: "12345:123"})
	wantStartError(t, err, StageCwd, fs.ErrPermission, 126)
}

// The forker holds nothing open: neither what was open when it began nor what
// it has handed to a child.
func TestForkerHoldsNothing(t *testing.T) {
	tab := crowdedTable(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if out, _, e := run(t, tab, Spec{Script: "echo x", Shell: "/bin/sh"}); out != "x\n" || e.OutputHeld {
		t.Errorf("got %q, %+v", out, e)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(time.Minute))
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	var links []string
	tab.forker.do(func() { links = threadFiles() })
	for _, link := range links {
		if !strings.HasPrefix(link, "anon_inode:") {
			t.Errorf("holds %s", link)
		}
	}
}

// threadFiles lists what this thread has open beyond the standard descriptors.
// It makes no os.File, which would ask the poller about a descriptor that means
// something else to the rest of the program.
func threadFiles() []string {
	var links []string
	for fd := 3; fd < 1024; fd++ {
		if link, err := os.Readlink("/proc/thread-self/fd/" + strconv.Itoa(fd)); err == nil {
			links = append(links, link)
		}
	}
	return links
}

// The runtime may look into its poller, and wake it, on the forker's thread.
func TestForkerKeepsThePoller(t *testing.T) {
	tab := crowdedTable(t)
	mustWait(t, mustStart(t, tab, Spec{Args: []string{"true"}}))
	tab.forker.do(func() {
		for range 10 {
			runtime.GC()
			<-time.After(time.Microsecond)
		}
	})
	mustWait(t, mustStart(t, tab, Spec{Args: []string{"true"}}))
}

// A table of many processes makes its forker by itself, and ends it.
func TestForkerComesWithTheCrowd(t *testing.T) {
	crowdedTable(t) // or skip
	tab := newTable(t, testConfig())
	for range crowd {
		mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	}
	if tab.forker != nil {
		t.Error("there is a forker without a crowd")
	}
	mustWait(t, mustStart(t, tab, Spec{Args: []string{"true"}}))
	f := tab.forker
	if f == nil {
		t.Fatal("there is no forker")
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-f.done:
	default:
		t.Error("the forker has not ended")
	}
}
