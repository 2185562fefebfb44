//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pairCases are shell scripts that run stock clients. $FAR is an empty directory
// of the far side, which is this machine; ssh, scp and sftp take -F "$CONFIG".
// What they print must not depend on times, process ids or free ports.
var pairCases = []struct{ name, script string }{
	{"output", `ssh -F "$CONFIG" guest 'echo out; echo err >&2'`},
	{"status", `for i in 0 1 2 126 127 254 255; do ssh -F "$CONFIG" guest "exit $i"; echo $?; done`},
	{"missing command", `ssh -F "$CONFIG" guest no-such-command --at-all`},
	{"not executable", `ssh -F "$CONFIG" guest /etc/passwd`},
	{"signals", `for s in HUP INT QUIT ILL ABRT FPE KILL USR1 SEGV USR2 PIPE ALRM TERM; do
		ssh -F "$CONFIG" guest "ulimit -c 0; kill -$s \$\$; echo survived" 2>/dev/null; echo $s $?; done`},
	{"stdin", `printf 'a\nb' | ssh -F "$CONFIG" guest 'cat; echo end'`},
	{"no stdin", `ssh -n -F "$CONFIG" guest cat`},
	{"empty command line", `echo 'echo in a shell; exit 9' | ssh -T -F "$CONFIG" guest 2>&1 | tail -n 1`},
	{"login shell", `echo 'echo "$0"; shopt -q login_shell && echo login' | ssh -T -F "$CONFIG" guest 2>&1 | tail -n 2`},
	{"quoting", `ssh -F "$CONFIG" guest echo "'a  b'" '"$HOME"' '*' \\\\ ';' echo next`},
	{"environment", `ssh -F "$CONFIG" guest env | grep -Ev '^(SSH_|_=|XDG_)' | sort`},
	{"names of ssh's variables", `ssh -tt -F "$CONFIG" guest env </dev/null | tr -d '\r' | grep -o '^SSH_[A-Z]*' | sort`},
	{"accepted variables", `LC_X=1 LANG=C FOO=2 ssh -F "$CONFIG" -o SendEnv='LC_X LANG FOO' guest 'echo "$LC_X-$LANG-$FOO"'`},
	{"directory and umask", `ssh -F "$CONFIG" guest 'pwd; umask; id'`},
	{"limits", `ssh -F "$CONFIG" guest 'ulimit -aS; ulimit -aH' | grep -v 'pending signals\|processes'`},
	{"inherited state", `ssh -F "$CONFIG" guest 'grep -E "^Sig(Blk|Ign|Cgt)|^Umask|^NoNewPrivs|^CapEff" /proc/self/status; nice; ls /proc/self/fd | wc -l'`},
	{"sessions", `ssh -F "$CONFIG" guest 'set -- $(cat /proc/$$/stat); [ $1 = $5 ] && echo leads its group; [ $1 = $6 ] && echo leads its session'`},
	{"no terminal", `ssh -T -F "$CONFIG" guest 'tty; [ -t 0 ] || echo no; ls -l /proc/self/fd | grep -c pipe'`},
	{"a terminal's modes", `TERM=xterm ssh -tt -F "$CONFIG" guest 'stty -a; echo $TERM' </dev/null`},
	{"a terminal's owner", `ssh -tt -F "$CONFIG" guest 'stat -c "%U %G %a" $(tty); ps -o tpgid=,pgid= -p $$ | { read a b; [ $a = $b ] && echo foreground; }' </dev/null`},
	{"a terminal's status", `ssh -tt -F "$CONFIG" guest 'exit 3' </dev/null; echo $?`},
	{"background holder", `ssh -F "$CONFIG" guest '(sleep 1; echo late) & echo early'`},
	{"closed output", `ssh -F "$CONFIG" guest 'exec >&- 2>&-; sleep 1; exit 4'; echo $?`},
	{"subsystem", `ssh -F "$CONFIG" -s guest no-such-subsystem; echo $?`},
	{"multiplexed", `ssh -fNM -S "$NEAR/c" -F "$CONFIG" guest >/dev/null 2>&1
		ssh -S "$NEAR/c" -F "$CONFIG" guest 'echo in; exit 5'; echo $?; ssh -S "$NEAR/c" -O exit -F "$CONFIG" guest`},
	{"sftp", `echo data >"$NEAR/f"; chmod 640 "$NEAR/f"; touch -d 2001-02-03 "$NEAR/f"
		printf '%s\n' "cd $FAR" "put -p $NEAR/f" 'put f2' "put $NEAR/f g" 'mkdir d' 'rename f d/f' 'ln -s d/f l' 'ls -1' '-rename none x' '-rm none' '-rmdir d' 'chmod 600 g' 'df .' |
		sed '/put f2/d; s/^df .*//' | sftp -q -b - -F "$CONFIG" guest`},
	{"sftp's errors", `for c in "get $FAR/none" "rm $FAR/none" "rmdir $FAR" "mkdir $FAR" "cd $FAR/none" "ls $FAR/none" "chmod 600 $FAR/none" "ln $FAR/none $FAR/x" "rename $FAR/a $FAR/b"; do
		echo "$c" | sftp -q -b - -F "$CONFIG" guest; echo $?; done`},
	{"scp", `echo data >"$NEAR/f"; chmod 751 "$NEAR/f"; touch -d 2001-02-03 "$NEAR/f"; mkdir -p "$NEAR/t/u"; cp -p "$NEAR/f" "$NEAR/t/u/"
		for p in -s -O; do scp -q $p -p -F "$CONFIG" "$NEAR/f" "guest:$FAR/f$p"; scp -q $p -F "$CONFIG" "$NEAR/f" "guest:$FAR/g$p"; scp -q $p -rp -F "$CONFIG" "$NEAR/t" "guest:$FAR/t$p"; done`},
	{"scp's errors", `for p in -s -O; do scp -q $p -F "$CONFIG" "guest:$FAR/none" "$NEAR/"; echo $?; scp -q $p -F "$CONFIG" /etc/passwd "guest:$FAR/none/x"; echo $?; done`},
	{"a refused forward", `ssh -o ExitOnForwardFailure=yes -o LogLevel=INFO -R "$FAR/none/s:$FAR/x" -F "$CONFIG" guest echo here; echo $?`},
}

// An outcome is all that a case leaves.
type outcome struct {
	stdout, stderr string
	status         int
	files          string // of $FAR
}

// TestPairStock compares OpenSSH's server with itself: so the cases leave the
// same outcome each time, and each difference that TestPairGuestd finds is
// guestd's own.
func TestPairStock(t *testing.T) {
	if testing.Short() {
		t.Skip("runs each case twice")
	}
	lab := newPairLab(t)
	first, second := lab.stock(t), lab.stock(t)
	for _, c := range pairCases {
		t.Run(c.name, func(t *testing.T) {
			a, b := lab.run(t, first, c.script), lab.run(t, second, c.script)
			if a != b {
				t.Errorf("one sshd:\n%v\nanother:\n%v", a, b)
			}
		})
	}
}

func (o outcome) String() string {
	return fmt.Sprintf("status %d\nstdout:\n%s\nstderr:\n%s\nfiles:\n%s", o.status, o.stdout, o.stderr, o.files)
}

// A pairLab is what the servers of a pair have in common: keys and directories,
// so that the same paths appear in what they say.
type pairLab struct {
	dir, near, far string
	sshd           string
	hostKey        string // public
}

// newPairLab skips the test where there are no stock programs.
func newPairLab(t *testing.T) *pairLab {
	t.Helper()
	sshd, err := filepath.Abs("../../.tools/sshd/sshd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("no stock sshd: run `make setup-ssh`")
	}
	if os.Geteuid() != 0 {
		t.Skip("compares sessions of root: run it as root")
	}
	dir := t.TempDir()
	lab := &pairLab{dir: dir, near: filepath.Join(dir, "near"), far: filepath.Join(dir, "far"), sshd: sshd}
	for _, name := range []string{"host_key", "user_key"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "host_key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	lab.hostKey = string(public)
	return lab
}

// noStartUp keeps bash from reading the ~/.bashrc of whoever runs this, as it
// does below ssh: one that takes a lock makes sessions wait for each other.
const noStartUp = "SHLVL=1"

// stock starts an OpenSSH server and returns the client's configuration for it.
func (l *pairLab) stock(t *testing.T) (config string) {
	t.Helper()
	dir := t.TempDir()
	socket, sshdConfig := filepath.Join(dir, "s"), filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf("HostKey %[1]s/host_key\nAuthorizedKeysFile %[1]s/user_key.pub\nStrictModes no\nPermitRootLogin yes\n"+
		"UsePAM no\nPidFile none\nLogLevel QUIET\nPrintMotd no\nAcceptEnv LANG LC_*\nSetEnv %[3]s\nSubsystem sftp %[2]s\n",
		l.dir, "/usr/lib/openssh/sftp-server", noStartUp)
	if err := os.WriteFile(sshdConfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runInBackground(t, func(ctx context.Context) error { return serveStock(ctx, socket, l.sshd, sshdConfig) })
	waitForFile(t, socket)
	return l.clientConfig(t, dir, socket, l.hostKey)
}

// clientConfig writes an ssh_config with the host guest, behind socket. The
// test's own binary is the ProxyCommand.
func (l *pairLab) clientConfig(t *testing.T, dir, socket, hostKey string) string {
	t.Helper()
	knownHosts, config := filepath.Join(dir, "known_hosts"), filepath.Join(dir, "ssh_config")
	text := fmt.Sprintf("Host guest\n\tUser root\n\tProxyCommand env %s=1 %s connect %s\n\tIdentityFile %s/user_key\n\tIdentitiesOnly yes\n"+
		"\tUserKnownHostsFile %s\n\tGlobalKnownHostsFile /dev/null\n\tStrictHostKeyChecking yes\n\tBatchMode yes\n\tLogLevel ERROR\n",
		helperVariable, os.Args[0], socket, l.dir, knownHosts)
	for name, content := range map[string]string{knownHosts: "* " + hostKey, config: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// run runs a case against one server, from the same start each time.
func (l *pairLab) run(t *testing.T, config, script string) outcome {
	t.Helper()
	for _, dir := range []string{l.near, l.far} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), "CONFIG="+config, "NEAR="+l.near, "FAR="+l.far, "SSH_AUTH_SOCK=")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = limit
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), listing(t, l.far)}
}

// listing describes the files below dir: names, modes, content, and the times
// that were set. Those of the test itself say nothing.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		fmt.Fprintf(&text, "%s %v", name, info.Mode())
		if time.Since(info.ModTime()) > 24*time.Hour {
			fmt.Fprintf(&text, " %v", info.ModTime().UTC())
		}
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, " %q", content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, " -> %s", target)
		}
		text.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}
