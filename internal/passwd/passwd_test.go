package passwd

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const passwdFile = `# comment
root:x:0:0:root:/root:/bin/bash
ann:x:1000:1000:Ann:/home/ann:/usr/bin/zsh
1234:x:77:77::/home/n:
broken:x:abc:1
short:x
+nis::::::
bare:x:1001:1001:::
`

const groupFile = `root:x:0:
ann:x:1000:
wheel:x:10:ann,bare
docker:x:999:bob,ann
dup:x:10:ann
`

func testRoot(t *testing.T, passwd, group string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLookup(t *testing.T) {
	root := testRoot(t, passwdFile, groupFile)
	tests := []struct {
		spec string
		want Identity
	}{
		{"root", Identity{"root", 0, 0, []uint32{0}, "/root", "/bin/bash"}},
		{"ann", Identity{"ann", 1000, 1000, []uint32{1000, 10, 999}, "/home/ann", "/usr/bin/zsh"}},
		{"1000", Identity{"ann", 1000, 1000, []uint32{1000, 10, 999}, "/home/ann", "/usr/bin/zsh"}},
		{"ann:wheel", Identity{"ann", 1000, 10, []uint32{10, 999}, "/home/ann", "/usr/bin/zsh"}},
		{"ann:5", Identity{"ann", 1000, 5, []uint32{5, 10, 999}, "/home/ann", "/usr/bin/zsh"}},
		{"4242", Identity{"4242", 4242, 0, []uint32{0}, "/", "/bin/sh"}},
		{"4242:4243", Identity{"4242", 4242, 4243, []uint32{4243}, "/", "/bin/sh"}},
		// A name made of digits wins over the number.
		{"1234", Identity{"1234", 77, 77, []uint32{77}, "/home/n", "/bin/sh"}},
		{"bare", Identity{"bare", 1001, 1001, []uint32{1001, 10}, "/", "/bin/sh"}},
	}
	for _, test := range tests {
		got, err := LookupIn(root, test.spec)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("LookupIn(%q) = %+v, %v; want %+v", test.spec, got, err, test.want)
		}
	}
}

func TestLookupErrors(t *testing.T) {
	root := testRoot(t, passwdFile, groupFile)
	for spec, want := range map[string]error{
		"":           ErrUnknownUser,
		"nobody":     ErrUnknownUser,
		":wheel":     ErrUnknownUser,
		"ann:":       ErrUnknownUser,
		"-1":         ErrUnknownUser,
		"4294967295": ErrUnknownUser,
		"broken":     ErrUnknownUser,
		"ann:nope":   ErrUnknownGroup,
	} {
		if _, err := LookupIn(root, spec); !errors.Is(err, want) {
			t.Errorf("LookupIn(%q): %v, want %v", spec, err, want)
		}
	}
}

func TestLookupWithoutFiles(t *testing.T) {
	root := t.TempDir()
	got, err := LookupIn(root, "root")
	want := Identity{"root", 0, 0, []uint32{0}, "/root", "/bin/sh"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("root = %+v, %v; want %+v", got, err, want)
	}
	if _, err := LookupIn(root, "ann"); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("ann: %v", err)
	}
}

func TestNames(t *testing.T) {
	if got := UserName(0); got != "root" {
		t.Errorf("UserName(0) = %q", got)
	}
	if got := GroupName(0); got != "root" {
		t.Errorf("GroupName(0) = %q", got)
	}
	if got := UserName(4_000_000_000); got != "" {
		t.Errorf("UserName(4e9) = %q", got)
	}
}

func FuzzScanEntries(f *testing.F) {
	f.Add(passwdFile)
	f.Add(groupFile)
	f.Fuzz(func(t *testing.T, text string) {
		_ = scanEntries(strings.NewReader(text), func(fields []string) bool {
			if len(fields) < 3 || fields[0] == "" {
				t.Fatalf("malformed entry passed on: %q", fields)
			}
			_, _ = parseID(fields, 2)
			return true
		})
	})
}
