//go:build linux

package sshd

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/access"
)

// What the real client prints, and how it ends.
func TestExec(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name, command, stdin string
		want                 outcome
	}{
		{"stdout", "echo hello", "", outcome{"hello\n", "", 0}},
		{"stderr apart", "echo out; echo err >&2", "", outcome{"out\n", "err\n", 0}},
		{"exit code", "exit 42", "", outcome{"", "", 42}},
		{"output, then exit code", "echo x; exit 3", "", outcome{"x\n", "", 3}},
		{"signal", "kill -TERM $$", "", outcome{"", "", 255}},
		{"stdin", "cat", "through\n", outcome{"through\n", "", 0}},
		{"end of stdin", "wc -c", "12345", outcome{"5\n", "", 0}},
		{"stdin unread", "true", strings.Repeat("x", 1<<20), outcome{"", "", 0}},
		{"stderr after stdout", "exec >&-; sleep 0.1; echo late >&2", "", outcome{"", "late\n", 0}},
		{"arguments", "set -- 'a b' c; echo $#", "", outcome{"2\n", "", 0}},
		{"home", "pwd; cd; pwd", "", outcome{me(t).HomeDir + "\n" + l.dir + "\n", "", 0}}, // a grant may set HOME
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := l.ssh(access.Grant{}, c.command)
			cmd.Stdin = strings.NewReader(c.stdin)
			if got := run(t, cmd); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	l.quiet()
}

// A reader that goes away on the client's side is one that goes away.
func TestReaderGoesAway(t *testing.T) {
	l := newLab(t)
	cmd := l.ssh(access.Grant{}, "exec yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	(&expecter{t: t, r: out}).expect("y\n")
	_ = out.Close()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 255 {
		t.Errorf("ended with %v", err)
	}
	l.quiet()
}

func TestMissingCommand(t *testing.T) {
	l := newLab(t)
	got := run(t, l.ssh(access.Grant{}, "no-such-program-here"))
	if got.code != 127 || !strings.Contains(got.stderr, "not found") {
		t.Errorf("got %+v", got)
	}
}

// Bytes arrive as they were, in both directions, also with new keys in between.
func TestBulk(t *testing.T) {
	l := newLab(t)
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i*7 + i>>8 + i>>16)
	}
	file := filepath.Join(l.dir, "bulk")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"-o", "RekeyLimit=1M"}, {"-c", "aes256-ctr"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			cmd := l.ssh(access.Grant{}, append(args, "cat "+file)...)
			sum := sha256.New()
			cmd.Stdout = sum
			if got := run(t, cmd); got.code != 0 || !bytes.Equal(sum.Sum(nil), sumOf(data)) {
				t.Errorf("down: %+v, or another sum", got)
			}
			up := filepath.Join(l.dir, "up")
			cmd = l.ssh(access.Grant{}, append(args, "cat >"+up)...)
			cmd.Stdin = bytes.NewReader(data)
			if got := run(t, cmd); got.code != 0 {
				t.Errorf("up: %+v", got)
			}
			if sent, err := os.ReadFile(up); err != nil || !bytes.Equal(sent, data) {
				t.Errorf("up: %d bytes, %v", len(sent), err)
			}
		})
	}
}

func sumOf(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// A background process that holds a pipe holds the channel, one that does not
// outlives it.
func TestBackground(t *testing.T) {
	l := newLab(t)
	begin := time.Now()
	got := run(t, l.ssh(access.Grant{}, "{ sleep 1; echo late; } & echo first"))
	if got != (outcome{"first\nlate\n", "", 0}) || time.Since(begin) < time.Second {
		t.Errorf("got %+v after %v", got, time.Since(begin))
	}
	mark := filepath.Join(l.dir, "mark")
	go_ := filepath.Join(l.dir, "go")
	got = run(t, l.ssh(access.Grant{}, "(until [ -e "+go_+" ]; do sleep 0.02; done; echo done >"+mark+") >/dev/null 2>&1 </dev/null & echo gone"))
	if got != (outcome{"gone\n", "", 0}) {
		t.Errorf("got %+v", got)
	}
	l.quiet()
	if err := os.WriteFile(go_, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server of a session goes on after it", func() bool {
		b, _ := os.ReadFile(mark)
		return string(b) == "done\n"
	})
}

func TestTerminal(t *testing.T) {
	l := newLab(t)
	got := run(t, l.ssh(access.Grant{}, "-tt", "tty; stty size; echo $TERM $SSH_TTY"))
	lines := strings.Split(got.stdout, "\r\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "/dev/pts/") || !strings.HasSuffix(lines[2], lines[0]) || got.code != 0 {
		t.Errorf("got %+v", got)
	}
	// The program has gone, whatever is left in the background.
	got = run(t, l.ssh(access.Grant{}, "-tt", "sleep 1000 & echo first"))
	if got.stdout != "first\r\n" || got.code != 0 {
		t.Errorf("with a background process: %+v", got)
	}
}

// A login shell: its name, its greeting, its input.
func TestShell(t *testing.T) {
	l := newLab(t)
	cmd := l.ssh(access.Grant{}, "-T")
	cmd.Stdin = strings.NewReader("echo $0; exit 7\n")
	got := run(t, cmd)
	if !strings.HasPrefix(got.stdout, "-") || got.code != 7 {
		t.Errorf("got %+v", got)
	}
}

func TestForcedCommand(t *testing.T) {
	l := newLab(t)
	g := access.Grant{Command: `echo "<${SSH_ORIGINAL_COMMAND-unset}>"`}
	if got := run(t, l.ssh(g, "rm -rf /")); got.stdout != "<rm -rf />\n" {
		t.Errorf("got %+v", got)
	}
	if got := run(t, l.ssh(g)); got.stdout != "<unset>\n" {
		t.Errorf("a shell: got %+v", got)
	}
}

func TestEnvironment(t *testing.T) {
	l := newLab(t, func(c *Config) { c.ToolDir = "/no/tools" })
	g := access.Grant{Env: []string{"FROM=grant", "LC_B=grant"}}
	cmd := l.ssh(g, "-o", "SendEnv=LC_A LC_B LD_PRELOAD BASH_ENV", "env")
	cmd.Env = append(os.Environ(), "LC_A=client", "LC_B=client", "LD_PRELOAD=", "BASH_ENV=/x")
	got := run(t, cmd)
	u := me(t)
	for _, want := range []string{
		"USER=" + u.Username, "LOGNAME=" + u.Username, "HOME=" + u.HomeDir, "MAIL=/var/mail/" + u.Username,
		"FROM=grant", "LC_A=client", "LC_B=grant",
		"SSH_CLIENT=UNKNOWN 65535 65535", "SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535",
	} {
		if !strings.Contains("\n"+got.stdout, "\n"+want+"\n") {
			t.Errorf("%q is missing in\n%s", want, got.stdout)
		}
	}
	for _, unwanted := range []string{"LD_PRELOAD", "BASH_ENV", "SSH_TTY", "SSH_AUTH_SOCK"} {
		if strings.Contains(got.stdout, unwanted) {
			t.Errorf("%s is there", unwanted)
		}
	}
	g.Client = netip.MustParseAddrPort("203.0.113.9:4711")
	if got := run(t, l.ssh(g, "echo $SSH_CLIENT, $SSH_CONNECTION")); got.stdout != "203.0.113.9 4711 22, 203.0.113.9 4711 127.0.0.1 22\n" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(got.stdout, ":/no/tools\n") {
		t.Errorf("PATH does not end with the tools:\n%s", got.stdout)
	}
}
