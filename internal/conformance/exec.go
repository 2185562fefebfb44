package conformance

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/guestd/guestd/client"
)

func asExit(err error, exit **client.ExitError) bool { return errors.As(err, exit) }

func (s *suite) system(t *testing.T) {
	if s.info.GetApiRevision() == 0 || s.info.GetBootId() == "" || s.info.GetVersion() == "" {
		t.Errorf("the info lacks something: %v", s.info)
	}
	if release := s.sh(t, "uname -r"); release != s.info.GetKernelRelease() {
		t.Errorf("kernel release %q, uname says %q", s.info.GetKernelRelease(), release)
	}
	if m := s.metrics(t); m.GetConnections() == 0 || m.GetResidentBytes() == 0 || m.GetGoroutines() == 0 {
		t.Errorf("the metrics lack something: %v", m)
	}
}

func (s *suite) exec(t *testing.T) {
	t.Run("streams apart", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		cmd := s.client.Command("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run(s.context(t))
		var exit *client.ExitError
		if !asExit(err, &exit) || exit.Code != 7 || exit.Signal != "" {
			t.Errorf("err = %v", err)
		}
		if stdout.String() != "out\n" || stderr.String() != "err\n" {
			t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
		}
	})
	t.Run("streams merged", func(t *testing.T) {
		out, err := s.client.Command("/bin/sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done").CombinedOutput(s.context(t))
		if want := "o1\ne1\no2\ne2\no3\ne3\n"; string(out) != want || err != nil {
			t.Errorf("%q, %v; want %q", out, err, want)
		}
	})
	t.Run("stdin", func(t *testing.T) {
		input := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
		cmd := s.client.Command("cat")
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.Output(s.context(t))
		if err != nil || !bytes.Equal(out, input) {
			t.Errorf("%d bytes came back of %d, %v", len(out), len(input), err)
		}
	})
	t.Run("no stdin", func(t *testing.T) {
		if out := s.sh(t, "cat; readlink /proc/self/fd/0"); out != "/dev/null" {
			t.Errorf("stdin is %q", out)
		}
	})
	t.Run("stdin unread", func(t *testing.T) {
		cmd := s.client.Command("true")
		cmd.Stdin = bytes.NewReader(make([]byte, 4<<20))
		if err := cmd.Run(s.context(t)); err != nil {
			t.Errorf("a program that does not read its input: %v", err)
		}
	})
	t.Run("environment", s.environment)
	t.Run("directory", func(t *testing.T) {
		cmd := s.client.Command("pwd")
		cmd.Dir = s.path(t, "")
		if out, err := cmd.Output(s.context(t)); strings.TrimSpace(string(out)) != strings.TrimSuffix(cmd.Dir, "/") || err != nil {
			t.Errorf("pwd = %q, %v", out, err)
		}
	})
	t.Run("user", s.user)
	t.Run("not UTF-8", func(t *testing.T) {
		cmd := s.client.Command("/bin/sh", "-c", `printf %s "$1$V"`, "sh", "a\xffb")
		cmd.Env = []string{"V=\xfe"}
		if out, err := cmd.Output(s.context(t)); string(out) != "a\xffb\xfe" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("clean descriptors", func(t *testing.T) {
		// Without a glob, for which the shell opens the directory itself.
		if out := s.sh(t, `i=0; while [ $i -lt 100 ]; do [ -h /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done`); out != "0\n1\n2" {
			t.Errorf("the child has descriptors %q", out)
		}
		// Without a shell: busybox's ignores some itself.
		out, err := s.client.Command("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status").Output(s.context(t))
		if want := "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"; string(out) != want || err != nil {
			t.Errorf("the child's signals: %q, %v", out, err)
		}
	})
	t.Run("settings", func(t *testing.T) {
		umask := uint32(0o027)
		cmd := s.client.Command("/bin/sh", "-c", "umask; ulimit -n; cat /proc/$$/oom_score_adj")
		cmd.Umask, cmd.OOMScoreAdj = &umask, 500
		cmd.Rlimits = []client.Rlimit{{Resource: "nofile", Soft: 77, Hard: 99}}
		out, err := cmd.Output(s.context(t))
		if got := strings.Fields(string(out)); err != nil || len(got) != 3 || got[0] != "0027" || got[1] != "77" || got[2] != "500" {
			t.Errorf("umask, nofile, oom_score_adj = %q, %v", out, err)
		}
	})
}

func (s *suite) environment(t *testing.T) {
	ctx := s.context(t)
	if _, err := s.client.UpdateEnvironment(ctx, client.EnvironmentChange{Set: map[string]string{"SHARED": "everybody", "BOTH": "sandbox"}}); err != nil {
		t.Fatal(err)
	}
	cmd := s.client.Command("/bin/sh", "-c", `echo "$SHARED $BOTH $OWN ${HOME:+home} ${PATH:+path}"`)
	cmd.Env = []string{"OWN=mine", "BOTH=process"}
	if out, err := cmd.Output(ctx); string(out) != "everybody process mine home path\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	cmd = s.client.Command("/usr/bin/env")
	cmd.Env, cmd.CleanEnv = []string{"ONLY=this"}, true
	if out, err := cmd.Output(ctx); string(out) != "ONLY=this\n" || err != nil {
		t.Errorf("a clean environment is %q, %v", out, err)
	}
	env, err := s.client.UpdateEnvironment(ctx, client.EnvironmentChange{Unset: []string{"SHARED", "BOTH"}})
	if _, there := env["SHARED"]; there || err != nil {
		t.Errorf("after unset: %v, %v", env, err)
	}
	if out := s.sh(t, `echo "[$SHARED]"`); out != "[]" {
		t.Errorf("an unset variable is %q", out)
	}
}

func (s *suite) user(t *testing.T) {
	user := s.needUser(t)
	cmd := s.client.Command("/bin/sh", "-c", "id -u; id -g; touch "+s.path(t, "made")+"; cat /proc/1/environ >/dev/null")
	cmd.User = user
	out, err := cmd.Output(s.context(t))
	uid, gid, _ := strings.Cut(user, ":")
	var exit *client.ExitError
	if string(out) != uid+"\n"+gid+"\n" || !asExit(err, &exit) {
		t.Errorf("%q, %v: want ids %s, and no way into /proc/1/environ", out, err, user)
	}
	info, err := s.client.Files().Stat(s.context(t), s.path(t, "made"))
	if err != nil || info.UID() != atoi(uid) || info.GID() != atoi(gid) {
		t.Errorf("a file made as %s: %v, %v", user, info, err)
	}
}

func atoi(text string) (n uint32) {
	for _, c := range text {
		n = n*10 + uint32(c-'0')
	}
	return n
}

// badSpec is what must not start, and how it is told.
func (s *suite) badSpec(t *testing.T) {
	plain := s.path(t, "plain")
	if _, err := s.client.Files().WriteBytes(s.context(t), plain, []byte("data"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	bad := s.path(t, "bad-interpreter")
	if _, err := s.client.Files().WriteBytes(s.context(t), bad, []byte("#!/no/such/interpreter\n"), client.WriteOptions{Perm: 0o755}); err != nil {
		t.Fatal(err)
	}
	huge := strings.Repeat("x", 5000)
	tests := []struct {
		name  string
		spec  client.Spec
		want  error
		stage string // of the failed start; empty: it is another error
		says  string // part of the text
	}{
		{"missing program", client.Spec{Args: []string{"/no/such/program"}}, fs.ErrNotExist, "exec", "/no/such/program"},
		{"missing in PATH", client.Spec{Args: []string{"no-such-program"}}, fs.ErrNotExist, "lookup", "no-such-program"},
		{"not executable", client.Spec{Args: []string{plain}}, fs.ErrPermission, "exec", plain},
		{"a directory", client.Spec{Args: []string{s.dir}}, fs.ErrPermission, "exec", s.dir},
		{"missing interpreter", client.Spec{Args: []string{bad}}, fs.ErrNotExist, "exec", bad},
		{"missing directory", client.Spec{Args: []string{"true"}, Dir: "/no/such/dir"}, fs.ErrNotExist, "cwd", "/no/such/dir"},
		{"directory is a file", client.Spec{Args: []string{"true"}, Dir: plain}, syscall.ENOTDIR, "cwd", plain},
		{"unknown user", client.Spec{Args: []string{"true"}, User: "nobody-of-that-name"}, client.ErrUnknownUser, "", "nobody-of-that-name"},
		{"unknown group", client.Spec{Args: []string{"true"}, User: "0:no-such-group"}, client.ErrUnknownUser, "", "no-such-group"},
		{"nothing to run", client.Spec{}, client.ErrInvalidRequest, "", ""},
		{"empty argv[0]", client.Spec{Args: []string{""}}, nil, "", ""},
		{"args and script", client.Spec{Args: []string{"true"}, Script: "true"}, client.ErrInvalidRequest, "", ""},
		{"NUL in an argument", client.Spec{Args: []string{"true", "a\x00b"}}, client.ErrInvalidRequest, "", "NUL"},
		{"NUL in the environment", client.Spec{Args: []string{"true"}, Env: []string{"A=b\x00c"}}, client.ErrInvalidRequest, "", "NUL"},
		{"NUL in the directory", client.Spec{Args: []string{"true"}, Dir: "/a\x00b"}, client.ErrInvalidRequest, "", "NUL"},
		{"name too long", client.Spec{Args: []string{"/" + huge}}, syscall.ENAMETOOLONG, "exec", ""},
		{"bad id", client.Spec{Args: []string{"true"}, ID: "../../etc"}, client.ErrInvalidRequest, "", "id"},
		{"unknown rlimit", client.Spec{Args: []string{"true"}, Rlimits: []client.Rlimit{{Resource: "beer"}}}, client.ErrInvalidRequest, "", "beer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.client.Start(s.context(t), test.spec)
			if err == nil {
				t.Fatal("it started")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v: is not %v", err, test.want)
			}
			if test.want != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v: does not say %q", err, test.says)
			}
			var e *client.Error
			if test.stage != "" && (!errors.As(err, &e) || e.Stage != test.stage) {
				t.Errorf("%v: the stage is not %s", err, test.stage)
			}
		})
	}
}
