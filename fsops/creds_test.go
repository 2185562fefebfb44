//go:build linux

package fsops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

func TestUserOwnsWhatItCreates(t *testing.T) {
	f, dir := userFS(t)
	h, err := f.Open(bg(), "file", OpenOptions{Flags: unix.O_RDWR | unix.O_CREAT})
	if err != nil {
		t.Fatal(err)
	}
	must(t, h.Close())
	if err := f.Mkdir(bg(), "dir", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := f.Symlink(bg(), "x", "link"); err != nil {
		t.Fatal(err)
	}
	w, err := f.NewWriter(bg(), "written", WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(bg(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "dir", "link", "written"} {
		st := statOf(t, filepath.Join(dir, name))
		if st.Uid != testIdentity.UID || st.Gid != testIdentity.GID {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
}

// A link that the user sees, and does not see where it leads.
func TestUnreadableLink(t *testing.T) {
	f, _ := userFS(t)
	if info, err := f.Lstat(bg(), "/proc/1/exe"); err != nil || !info.IsSymlink() || info.LinkTarget != "" {
		t.Errorf("%+v, %v", info, err)
	}
	listed := false
	err := f.ReadDir(bg(), "/proc/1", ReadDirOptions{Stat: true}, func(entries []DirEntry) error {
		for _, e := range entries {
			listed = listed || e.Name == "exe" && e.Info != nil && e.Info.IsSymlink()
		}
		return nil
	})
	if err != nil || !listed {
		t.Errorf("listed: %v, %v", listed, err)
	}
	if _, err := f.Readlink(bg(), "/proc/1/exe"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("reading it: %v", err)
	}
}

func TestUserMayNotWhatItMayNot(t *testing.T) {
	f, _ := userFS(t)
	private := publicDir(t)
	mustWrite(t, filepath.Join(private, "secret"), "x")
	if err := os.Chmod(filepath.Join(private, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(private, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(private, name) }
	for what, op := range map[string]func() error{
		"open":      func() error { _, err := f.Open(bg(), in("secret"), OpenOptions{}); return err },
		"read":      func() error { _, err := f.OpenRead(bg(), in("secret"), ReadOptions{}); return err },
		"write":     func() error { _, err := f.NewWriter(bg(), in("new"), WriteOptions{}); return err },
		"truncate":  func() error { return f.Truncate(bg(), in("secret"), 0) },
		"mkdir":     func() error { return f.Mkdir(bg(), in("d"), 0o755) },
		"remove":    func() error { _, err := f.Remove(bg(), in("secret"), RemoveOptions{}); return err },
		"rename":    func() error { return f.Rename(bg(), in("secret"), in("other"), RenameReplace) },
		"stat":      func() error { _, err := f.Stat(bg(), in("closed/x")); return err },
		"readdir":   func() error { return f.ReadDir(bg(), closed, ReadDirOptions{}, nil) },
		"copy":      func() error { _, err := f.Copy(bg(), in("secret"), "copy", CopyOptions{}); return err },
		"watch":     func() error { _, err := f.Watch(bg(), closed, WatchOptions{}); return err },
		"access":    func() error { return f.Access(bg(), in("secret"), AccessRead) },
		"chmod":     func() error { return f.Chmod(bg(), in("secret"), 0o666) },
		"chown":     func() error { return f.Chown(bg(), in("secret"), ptr(testIdentity.UID), nil) },
		"xattr":     func() error { return f.SetXattr(bg(), in("secret"), "user.x", []byte("y"), 0, false) },
		"environ":   func() error { _, err := f.OpenRead(bg(), "/proc/1/environ", ReadOptions{}); return err },
		"link":      func() error { return f.Link(bg(), in("secret"), in("second")) },
		"mkdirtemp": func() error { _, err := f.MkdirTemp(bg(), private, "x"); return err },
	} {
		if err := op(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want permission denied", what, err)
		}
	}
	wantContent(t, in("secret"), "x")
}

// setfsuid leaves these capabilities alone; creds.go must not.
func TestNoCapabilitiesLeft(t *testing.T) {
	f, dir := userFS(t)
	mustWrite(t, filepath.Join(dir, "mine"), "x")
	if err := os.Chown(filepath.Join(dir, "mine"), int(testIdentity.UID), int(testIdentity.GID)); err != nil {
		t.Fatal(err)
	}
	// cap_setuid+ep, revision 2.
	capability := []byte{1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for name, value := range map[string][]byte{"security.capability": capability, "trusted.x": []byte("y")} {
		err := f.SetXattr(bg(), "mine", name, value, XattrEither, false)
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("set %s: %v, want EPERM", name, err)
		}
	}
	if err := unix.Setxattr(filepath.Join(dir, "mine"), "security.capability", capability, 0); err != nil {
		t.Fatalf("root could not either: %v", err)
	}
	if err := f.Chown(bg(), "mine", ptr(uint32(0)), nil); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chown to root: %v, want EPERM", err)
	}
}

func TestSupplementaryGroups(t *testing.T) {
	f, dir := userFS(t)
	if err := f.Mkdir(bg(), "d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Chown(bg(), "d", nil, ptr(uint32(61002))); err != nil {
		t.Errorf("chgrp to a supplementary group: %v", err)
	}
	if st := statOf(t, filepath.Join(dir, "d")); st.Gid != 61002 {
		t.Errorf("group %d", st.Gid)
	}
	if err := f.Chown(bg(), "d", nil, ptr(uint32(61003))); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chgrp to a foreign group: %v, want EPERM", err)
	}
	// A root's group must not help its user either.
	if err := f.Chown(bg(), "d", nil, ptr(uint32(0))); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chgrp to root's group: %v, want EPERM", err)
	}
}

// A thread may look at its own process in /proc whoever it acts as, so the
// agent's descriptors would be the user's.
func TestAgentsDescriptorsStayItsOwn(t *testing.T) {
	f, dir := userFS(t)
	hidden := filepath.Join(publicDir(t), "closed")
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(hidden, "file"), "secret")
	if err := os.Chmod(filepath.Join(hidden, "file"), 0o644); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(filepath.Join(hidden, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	way := fmt.Sprintf("/proc/self/fd/%d", opened.Fd())
	if err := os.Symlink(way, filepath.Join(dir, "way")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{way, "way"} {
		if _, err := f.OpenRead(bg(), path, ReadOptions{}); err == nil {
			t.Errorf("%s: opened", path)
		}
		if _, err := f.Copy(bg(), path, "copy", CopyOptions{}); err == nil {
			t.Errorf("%s: copied", path)
		}
	}
}

func TestUnprivilegedProcessIsItself(t *testing.T) {
	sys := newSystem(t)
	sys.own.canSwitch = false
	_, err := sys.As(testIdentity, "")
	var identity *IdentityError
	if !errors.As(err, &identity) || !errors.Is(err, fs.ErrPermission) || !errors.Is(err, syscall.EPERM) {
		t.Errorf("As: %v", err)
	}
	if _, err := sys.Own(""); err != nil {
		t.Errorf("Own: %v", err)
	}
	if _, err := sys.AsUser("", "/"); err != nil {
		t.Errorf("AsUser of nobody named: %v", err)
	}
}

func TestUnknownUser(t *testing.T) {
	_, err := newSystem(t).AsUser("no-such-user", "")
	if !errors.Is(err, passwd.ErrUnknownUser) {
		t.Errorf("%v", err)
	}
}

// Root with another group keeps its capabilities and creates with that group.
func TestRootWithAnotherGroup(t *testing.T) {
	needRoot(t)
	f, err := newSystem(t).As(passwd.Identity{Name: "root", GID: 61005, Groups: []uint32{61005}, Home: "/root"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Mkdir(bg(), "d", 0o700); err != nil {
		t.Fatal(err)
	}
	if st := statOf(t, filepath.Join(f.Base(), "d")); st.Uid != 0 || st.Gid != 61005 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	if err := f.Chown(bg(), "d", ptr(uint32(7)), nil); err != nil {
		t.Errorf("chown: %v", err)
	}
	wantOwnRights(t)
}

func TestDo(t *testing.T) {
	f, _ := userFS(t)
	other := testIdentity
	other.UID++
	g, err := f.sys.As(other, "/")
	if err != nil {
		t.Fatal(err)
	}
	sameUser := testIdentity
	sameUser.Groups = []uint32{61001, 61009}
	h, err := f.sys.As(sameUser, "/")
	if err != nil {
		t.Fatal(err)
	}
	err = f.Do(bg(), func() error {
		if _, err := f.Stat(bg(), "/"); err != nil {
			t.Errorf("nested: %v", err)
		}
		if uid, _ := fsIDs(); uid != testIdentity.UID {
			t.Errorf("after a nested call the uid is %d", uid)
		}
		for _, fs := range []*FS{g, h} {
			var identity *IdentityError
			if _, err := fs.Stat(bg(), "/"); !errors.As(err, &identity) {
				t.Errorf("nested as somebody else: %v", err)
			}
		}
		return fs.ErrClosed
	})
	if !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Do: %v", err)
	}
	wantOwnRights(t)

	ctx, cancel := context.WithCancel(bg())
	cancel()
	if err := f.Do(ctx, func() error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Do: %v", err)
	}
}

func TestPanicDoesNotCarryRightsAway(t *testing.T) {
	f, _ := userFS(t)
	func() {
		defer func() { _ = recover() }()
		_ = f.Do(bg(), func() error { panic("x") })
	}()
	wantOwnRights(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Do(bg(), func() error { runtime.Goexit(); return nil })
	}()
	<-done
	wantAllThreadsOwn(t)
}

// wantOwnRights checks that the calling thread is root with all its
// capabilities again.
func wantOwnRights(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := readOwnCreds()
	if err != nil {
		t.Fatal(err)
	}
	sys := newSystem(t)
	uid, gid := fsIDs()
	if uid != 0 || gid != sys.own.gid || own.caps != sys.own.caps || own.caps[0].Effective == 0 {
		t.Errorf("left over: fsuid %d, fsgid %d, caps %+v", uid, gid, own.caps)
	}
}

// wantAllThreadsOwn looks at what the kernel says about every thread.
func wantAllThreadsOwn(t *testing.T) {
	t.Helper()
	eventually(t, "all threads are root again", func() bool {
		tasks, err := filepath.Glob("/proc/self/task/*/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				continue
			}
			var r, e, s, fsuid int
			for line := range splitLines(string(text)) {
				if n, _ := fmt.Sscanf(line, "Uid: %d %d %d %d", &r, &e, &s, &fsuid); n == 4 && fsuid != 0 {
					return false
				}
			}
		}
		return true
	})
}

func splitLines(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			i := 0
			for i < len(s) && s[i] != '\n' {
				i++
			}
			if !yield(s[:i]) {
				return
			}
			s = s[min(i+1, len(s)):]
		}
	}
}

// Many goroutines with different users at once, and some without: what each
// creates must be its own, and threads go from one to the other all the time.
func TestIdentitiesNeverMix(t *testing.T) {
	needRoot(t)
	sys := newSystem(t)
	dir := publicDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	const workers, rounds = 200, 20
	var all sync.WaitGroup
	for i := range workers {
		id := passwd.Identity{Name: fmt.Sprint(i), UID: 62000 + uint32(i), GID: 63000 + uint32(i), Home: dir}
		id.Groups = []uint32{id.GID, 64000 + uint32(i)}
		if i%10 == 0 {
			id = passwd.Identity{Name: "root", Home: dir, Groups: []uint32{0}}
		}
		f, err := sys.As(id, dir)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for n := range rounds {
				name := fmt.Sprintf("%d-%d", i, n)
				if err := f.Mkdir(bg(), name, 0o700); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				info, err := f.Stat(bg(), name)
				if err != nil || info.UID != id.UID || info.GID != id.GID {
					t.Errorf("%s: %+v, %v; want %d:%d", name, info, err, id.UID, id.GID)
					return
				}
				if id.UID != 0 {
					// The neighbour's, which only a mixed-up thread may enter.
					other := fmt.Sprintf("%d-0", (i+1)%workers)
					if _, err := f.Stat(bg(), other+"/x"); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s from %d: %v", other, i, err)
					} else if errors.Is(err, fs.ErrNotExist) {
						if _, err := os.Lstat(filepath.Join(dir, other)); err == nil && n > 0 {
							if _, err := f.Stat(bg(), other+"/x"); !errors.Is(err, fs.ErrPermission) {
								t.Errorf("%s from %d: %v, want permission denied", other, i, err)
							}
						}
					}
					if err := f.Chown(bg(), name, nil, ptr(id.Groups[1])); err != nil {
						t.Errorf("%s: supplementary group: %v", name, err)
					}
				}
			}
		})
	}
	all.Wait()
	wantAllThreadsOwn(t)
}

// What a file of /proc says may depend on who reads, not only on who opened it:
// the addresses in stat are shown to whom could trace the process.
func TestKernelFilesAreReadAsTheUser(t *testing.T) {
	f, _ := userFS(t)
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Skipf("SKIP: %v", err)
	}
	defer func() {
		must(t, child.Process.Kill())
		_ = child.Wait() // killed
	}()
	const startCode = 25
	path := fmt.Sprintf("/proc/%d/stat", child.Process.Pid)
	field := func(text string) string {
		fields := strings.Fields(text)
		if len(fields) <= startCode {
			t.Skipf("SKIP: %s is %q", path, text)
		}
		return fields[startCode]
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots := field(string(text))
	if roots == "0" || roots == "1" {
		t.Skip("SKIP: not even root sees an address")
	}
	if users := field(readAll(t, f, path, ReadOptions{})); users == roots {
		t.Errorf("the user sees the address %s", users)
	}
	h, err := f.Open(bg(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	buf := make([]byte, 4096)
	if n, err := h.Read(bg(), buf); err != nil || field(string(buf[:n])) == roots {
		t.Errorf("handle: %q, %v", buf[:n], err)
	}
}

// A write by its user clears setuid; one with root's rights would not.
func TestWriteClearsSetuid(t *testing.T) {
	f, dir := userFS(t)
	path := filepath.Join(dir, "program")
	mustWrite(t, path, "x")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	h, err := f.Open(bg(), "program", OpenOptions{Flags: unix.O_WRONLY})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	w := begin(t, f, "program", WriteOptions{Mode: WriteInPlace})
	defer func() { _ = w.Abort() }()
	for what, write := range map[string]func() error{
		"handle": func() error { _, err := h.Write(bg(), []byte("y")); return err },
		"writer": func() error { _, err := w.Write([]byte("y")); return err },
	} {
		if err := unix.Chmod(path, 0o4777); err != nil {
			t.Fatal(err)
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if st := statOf(t, path); st.Mode&unix.S_ISUID != 0 {
			t.Errorf("%s: mode %o", what, st.Mode)
		}
	}
}

func BenchmarkStat(b *testing.B) {
	sys := newSystem(b)
	own, err := sys.Own("/")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("own", func(b *testing.B) { benchmarkStat(b, own) })
	b.Run("user", func(b *testing.B) {
		needRoot(b)
		f, err := sys.As(testIdentity, "/")
		if err != nil {
			b.Fatal(err)
		}
		benchmarkStat(b, f)
	})
}

func benchmarkStat(b *testing.B, f *FS) {
	for b.Loop() {
		if _, err := f.Lstat(bg(), "/"); err != nil {
			b.Fatal(err)
		}
	}
}
