//go:build linux

package sshd

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/passwd"
)

// Nobody comes in without a grant, whatever is offered.
func TestNoGrant(t *testing.T) {
	l := newLab(t)
	signer, _ := l.newKey()
	for _, user := range []string{"root", me(t).Username, "", "0"} {
		_, err := l.tryDial(user, ssh.PublicKeys(signer), ssh.Password(""),
			ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil }))
		if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("user %q: %v", user, err)
		}
	}
	l.quiet()
}

// A secret lets in by whatever method a client has.
func TestSecret(t *testing.T) {
	l := newLab(t)
	secret := l.grantSecret(access.Grant{})
	if got := run(t, l.client(secret+"@guest", "echo in")); got.stdout != "in\n" {
		t.Errorf("none: %+v", got)
	}
	got := run(t, l.client(secret+"@guest", "echo in"))
	if got.code != 255 || !strings.Contains(got.stderr, access.ErrUsedUp.Error()) {
		t.Errorf("the second time: %+v", got)
	}
	if strings.Count(got.stderr, access.ErrUsedUp.Error()) != 1 {
		t.Errorf("told more than once: %+v", got)
	}
	got = run(t, l.client("x"+secret+"@guest", "echo in"))
	if got.code != 255 || strings.Contains(got.stderr, "credential") {
		t.Errorf("an unknown one is told something: %+v", got)
	}
}

// A person who is refused is not asked for a password that there is not.
func TestRefusedIsNotAsked(t *testing.T) {
	l := newLab(t)
	asked := filepath.Join(l.dir, "asked")
	ask := filepath.Join(l.dir, "ask")
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho \"$1\" >>"+asked+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := l.client("nobody-knows-me@guest", "true")
	cmd.Args[slices.Index(cmd.Args, "BatchMode=yes")] = "BatchMode=no"
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+ask, "SSH_ASKPASS_REQUIRE=force")
	if got := run(t, cmd); got.code != 255 || !strings.Contains(got.stderr, "Permission denied (publickey)") {
		t.Errorf("got %+v", got)
	}
	if text, err := os.ReadFile(asked); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asked %q, %v", text, err)
	}
}

// One use is one connection, whoever comes at the same time, by a secret or a key.
func TestSingleUse(t *testing.T) {
	l := newLab(t)
	signer, _ := l.newKey()
	user := me(t).Username
	if _, err := l.store.Grant(access.Grant{Key: signer.PublicKey().Marshal(), User: user}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, user string
		auth       []ssh.AuthMethod
	}{
		{"secret", l.grantSecret(access.Grant{}), nil},
		{"key", user, []ssh.AuthMethod{ssh.PublicKeys(signer)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const crowd = 100
			var won atomic.Int32
			var clients sync.WaitGroup
			for range crowd {
				clients.Go(func() {
					if _, err := l.tryDial(c.user, c.auth...); err == nil {
						won.Add(1)
					}
				})
			}
			clients.Wait()
			if won.Load() != 1 {
				t.Errorf("%d of %d connections got in with one use", won.Load(), crowd)
			}
		})
	}
}

// A query for a key consumes nothing, and neither does a wrong user name.
func TestKey(t *testing.T) {
	l := newLab(t)
	signer, _ := l.newKey()
	if _, err := l.store.Grant(access.Grant{Key: signer.PublicKey().Marshal(), User: me(t).Username}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.tryDial("nobody", ssh.PublicKeys(signer)); err == nil {
		t.Error("another user got in")
	}
	if _, err := l.tryDial(me(t).Username, ssh.PublicKeys(signer)); err != nil {
		t.Error(err)
	}
	if _, err := l.tryDial(me(t).Username, ssh.PublicKeys(signer)); err == nil {
		t.Error("got in twice")
	}
}

func TestUserThatIsNotThere(t *testing.T) {
	l := newLab(t)
	signer, key := l.newKey()
	if _, err := l.store.Grant(access.Grant{Key: signer.PublicKey().Marshal(), User: "no-such-user"}); err != nil {
		t.Fatal(err)
	}
	got := run(t, l.client("-i", key, "no-such-user@guest", "true"))
	if got.code != 255 || !strings.Contains(got.stderr, errNoUser.Error()) {
		t.Errorf("got %+v", got)
	}
}

// Who takes too long to log in is disconnected, and told to the watchers.
func TestLoginGrace(t *testing.T) {
	l := newLab(t, func(c *Config) { c.LoginGrace = 50 * time.Millisecond })
	watcher, err := l.store.Watch(access.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close() }()
	nc, err := net.Dial("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.Copy(io.Discard, nc); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Log(err)
	}
	event, err := watcher.Next(within(t))
	if err != nil || event.Kind != access.EventRefused || event.Reason != errLoginGrace.Error() {
		t.Errorf("got %+v, %v", event, err)
	}
}

// Half-open connections do not keep others out for ever.
func TestHalfOpen(t *testing.T) {
	l := newLab(t, func(c *Config) { c.LoginGrace = 200 * time.Millisecond })
	for range 300 {
		nc, err := net.Dial("unix", l.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	eventually(t, "somebody gets in", func() bool {
		// Each time another one: it is used up where the time was up just then.
		_, err := l.tryDial(l.grantSecret(access.Grant{}))
		return err == nil
	})
}

// Of ten thousand that come and say nothing a hundred are heard out. The others
// cost nothing, and who is in stays.
func TestManyHalfOpen(t *testing.T) {
	const comers, heard = 10_000, 100
	l := newLab(t)
	inside := l.dial(access.Grant{})
	before := countDescriptors()
	var silent []net.Conn
	for range comers {
		nc, err := net.Dial("unix", l.socket)
		if err != nil {
			t.Fatal(err)
		}
		// Who is heard out is greeted; the others find the end.
		if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
			_ = nc.Close()
			continue
		}
		silent = append(silent, nc)
	}
	if len(silent) != heard {
		t.Errorf("%d of %d connections were heard out", len(silent), comers)
	}
	eventually(t, "the others leave nothing", func() bool { return countDescriptors() <= before+2*heard })
	session, err := inside.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.Output("echo here"); string(out) != "here\n" || err != nil {
		t.Errorf("who is in: %q, %v", out, err)
	}
	for _, nc := range silent {
		_ = nc.Close()
	}
	secret := l.grantSecret(access.Grant{})
	eventually(t, "somebody gets in again", func() bool {
		_, err := l.tryDial(secret)
		return err == nil
	})
}

// A guest that is out of descriptors when somebody comes says so, and not that
// it lacks the user; the credential is not used up by it.
func TestUserCannotBeLookedUp(t *testing.T) {
	var broken atomic.Bool
	var users passwd.Cache
	files, err := fsops.New(fsops.Config{LookupUser: func(spec string) (passwd.Identity, error) {
		if broken.Load() {
			return passwd.Identity{}, &fs.PathError{Op: "open", Path: "/etc/passwd", Err: syscall.EMFILE}
		}
		return users.Lookup(spec)
	}})
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(c *Config) { c.Files = files })
	watcher, err := l.store.Watch(access.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close() }()
	signer, file := l.newKey()
	user := me(t).Username
	if _, err := l.store.Grant(access.Grant{Key: signer.PublicKey().Marshal(), User: user, Env: []string{"HOME=" + l.dir}}); err != nil {
		t.Fatal(err)
	}
	cmd := func() *exec.Cmd {
		return l.client("-i", file, user+"@guest", "echo hi")
	}
	broken.Store(true)
	if got := run(t, cmd()); got.code != 255 || !strings.Contains(got.stderr, errLookup.Error()) {
		t.Errorf("got %+v", got)
	}
	for _, kind := range []access.EventKind{access.EventGranted, access.EventRefused} {
		if e, err := watcher.Next(within(t)); err != nil || e.Kind != kind || kind == access.EventRefused && e.Reason != errLookup.Error() {
			t.Errorf("event %+v, %v", e, err)
		}
	}
	broken.Store(false)
	if got := run(t, cmd()); got.stdout != "hi\n" {
		t.Errorf("afterwards: %+v", got)
	}
}
