package conformance

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/client"
)

// hostTree makes a tree with everything in it that a tree may hold. It returns
// how many bytes of content that is.
func hostTree(t *testing.T, dir string, sparse int64) int64 {
	t.Helper()
	content := map[string]string{
		"plain":                            string(noise(300_000)),
		"run.sh":                           "#!/bin/sh\n",
		"nothing":                          "",
		"deep/er/file":                     "deep",
		"closed/file":                      "in a closed directory",
		"caf\xe9":                          "latin 1",
		"line\nend":                        "line end",
		strings.Repeat("long/", 40) + "x":  "long path",
		strings.Repeat("n", 255):           "long name",
		"many/" + strings.Repeat("é", 120): "wide",
	}
	var total int64
	for name, text := range content {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		total += int64(len(text))
	}
	must(t, os.MkdirAll(filepath.Join(dir, "empty"), 0o755))
	must(t, os.Symlink("plain", filepath.Join(dir, "link")))
	must(t, os.Symlink("/no/where", filepath.Join(dir, "dead")))
	must(t, os.Symlink("caf\xe9", filepath.Join(dir, "deep/raw")))
	must(t, os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "deep/hard")))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	for _, at := range []int64{0, sparse / 2} {
		_, err := f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, f.Truncate(sparse))
	must(t, f.Close())
	// Where the host's filesystem has none, there is nothing to carry.
	_ = unix.Setxattr(filepath.Join(dir, "plain"), "user.guestd", []byte("kept\x00as it is"), 0)
	setAttributes(t, dir)
	return total + 8
}

// setAttributes gives everything a time of its own, and some a mode.
func setAttributes(t *testing.T, dir string) {
	t.Helper()
	modes := map[string]fs.FileMode{"plain": 0o640, "run.sh": 0o751, "nothing": 0o400, "empty": 0o711, "closed": 0o555, "deep": 0o700}
	for name, mode := range modes {
		must(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o755) })
	var paths []string
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	}))
	for i, path := range slices.Backward(paths) {
		when := unix.NsecToTimespec(time.Unix(1_300_000_000+int64(i)*1000, 123_456_789+int64(i)).UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// describe says of each file of a tree on this machine all that has to survive.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	inodes := map[uint64]string{} // the first name of each file
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, dir)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d.%09d", st.Mode, st.Mtim.Sec, st.Mtim.Nsec)
		switch entry.Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" -> %q", target)
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			value := make([]byte, 100)
			n, _ := unix.Getxattr(path, "user.guestd", value)
			text += fmt.Sprintf(" %d %x %q", st.Size, sha256.Sum256(content), value[:max(n, 0)])
			if st.Nlink > 1 {
				if inodes[st.Ino] == "" {
					inodes[st.Ino] = rel
				}
				text += " is " + inodes[st.Ino]
			}
		}
		found[rel] = text
		return nil
	}))
	return found
}

func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range maps.Keys(want) {
		if got[name] != want[name] {
			t.Errorf("%q is  %s\nwant %s", name, got[name], want[name])
		}
	}
	for name := range maps.Keys(got) {
		if want[name] == "" {
			t.Errorf("%q is new", name)
		}
	}
}

// withoutXattrs takes extended attributes out of descriptions.
func withoutXattrs(t *testing.T, skips []client.Skip, trees ...map[string]string) {
	t.Helper()
	for _, skip := range skips {
		if !strings.Contains(skip.Reason, "xattr") && !strings.Contains(skip.Reason, "attribute") {
			t.Errorf("skipped: %+v", skip)
		}
	}
	for _, tree := range trees {
		for name := range tree {
			tree[name] = strings.ReplaceAll(tree[name], `"kept\x00as it is"`, `""`)
		}
	}
}
