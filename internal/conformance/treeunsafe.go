package conformance

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// sendArchive unpacks an archive that this client would never send.
func (s *suite) sendArchive(t *testing.T, dir string, archive []byte) error {
	t.Helper()
	call, err := guestdv1.NewFileServiceClient(s.client.Conn()).UploadTree(s.context(t))
	must(t, err)
	err = call.Send(&guestdv1.UploadTreeRequest{Part: &guestdv1.UploadTreeRequest_Start{Start: &guestdv1.UploadTreeStart{Path: dir}}})
	for err == nil && len(archive) > 0 {
		n := min(len(archive), 1000) // headers come in pieces
		err = call.Send(&guestdv1.UploadTreeRequest{Part: &guestdv1.UploadTreeRequest_Data{Data: archive[:n]}})
		archive = archive[n:]
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = call.CloseAndRecv()
	return err
}

// entry is a header and what follows it.
type entry struct {
	kind   byte
	name   string
	target string
}

func pack(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.target, Mode: 0o777}
		if e.kind == tar.TypeReg {
			h.Size = 4
		}
		must(t, w.WriteHeader(h))
		if e.kind == tar.TypeReg {
			_, err := io.WriteString(w, "evil")
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

// unsafeEntries: whatever an archive says, nothing outside of where it is
// unpacked changes.
func (s *suite) unsafeEntries(t *testing.T) {
	out := s.path(t, "")
	s.put(t, out+"/canary", "alive")
	s.sh(t, "mkdir %s/outside; echo inside >%s/outside/canary", out, out)
	const file, link, hard, dir = tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir
	for name, c := range map[string]struct {
		entries []entry
		fine    bool // what is asked for can be done safely
	}{
		"up":                     {entries: []entry{{file, "../canary", ""}}},
		"up from below":          {entries: []entry{{dir, "a", ""}, {file, "a/../../canary", ""}}},
		"up as a directory":      {entries: []entry{{dir, "../planted", ""}}},
		"up in between":          {entries: []entry{{dir, "x/../../planted", ""}}},
		"up as a link":           {entries: []entry{{link, "../planted", "x"}}},
		"absolute":               {entries: []entry{{file, out + "/canary", ""}}},
		"through a link up":      {entries: []entry{{link, "l", ".."}, {file, "l/canary", ""}}},
		"through an absolute":    {entries: []entry{{link, "l", out}, {file, "l/canary", ""}}},
		"through two links":      {entries: []entry{{link, "l", "m"}, {link, "m", "../outside"}, {file, "l/canary", ""}}},
		"directory over a link":  {entries: []entry{{link, "l", "../outside"}, {dir, "l", ""}, {file, "l/canary", ""}}, fine: true},
		"file over a link":       {entries: []entry{{link, "l", "../canary"}, {file, "l", ""}}, fine: true},
		"hard link to outside":   {entries: []entry{{hard, "h", "../canary"}, {file, "h", ""}}},
		"hard link to absolute":  {entries: []entry{{hard, "h", out + "/canary"}, {file, "h", ""}}},
		"hard link through link": {entries: []entry{{link, "l", ".."}, {hard, "h", "l/canary"}, {file, "h", ""}}},
	} {
		target := out + "/target"
		err := s.sendArchive(t, target, pack(t, c.entries))
		switch {
		case c.fine && err != nil && reasonOf(err) != "UNSAFE_ENTRY", !c.fine && reasonOf(err) != "UNSAFE_ENTRY":
			t.Errorf("%s: %v (%s)", name, err, reasonOf(err))
		}
		if got := s.sh(t, "cd %s; cat canary outside/canary; ls -A; ls -A outside; stat -c %%h:%%a canary", out); got != "aliveinside\ncanary\noutside\ntarget\ncanary\n1:644" &&
			got != "aliveinside\ncanary\noutside\ncanary\n1:644" {
			t.Fatalf("%s: %s", name, got)
		}
		_, err = s.client.Files().RemoveAll(s.context(t), target)
		must(t, err)
	}
}

// unsafeDestination: links that somebody has put into the destination are not
// gone through either.
func (s *suite) unsafeDestination(t *testing.T) {
	out, from := s.path(t, ""), t.TempDir()
	s.sh(t, "mkdir %s/outside %s/target; ln -s ../outside %s/target/dir; ln -s %s/outside %s/target/abs", out, out, out, out, out)
	for _, name := range []string{"dir", "abs"} {
		must(t, os.Mkdir(filepath.Join(from, name), 0o700))
		must(t, os.WriteFile(filepath.Join(from, name, "planted"), []byte("evil"), 0o644))
	}
	// Whether the links are replaced or refused is not the point.
	if _, err := s.client.Upload(s.context(t), from, out+"/target", client.UploadOptions{}); err != nil && !errors.Is(err, client.ErrUnsafeEntry) {
		t.Error(err)
	}
	if names := s.names(t, out+"/outside"); len(names) != 0 {
		t.Errorf("outside there is %q now", names)
	}
	if got := s.sh(t, "stat -c %%a %s/outside", out); got != "755" {
		t.Errorf("outside has mode %s now", got)
	}
}

// badArchives end with an error that says so, and leave no half of a file.
func (s *suite) badArchives(t *testing.T) {
	out := s.path(t, "")
	whole := pack(t, []entry{{tar.TypeReg, "file", ""}, {tar.TypeReg, "second", ""}})
	for name, archive := range map[string][]byte{
		"nonsense":         noise(10_000),
		"text":             []byte(strings.Repeat("no archive at all\n", 1000)),
		"cut in a header":  whole[:512+512+100],
		"cut in a file":    whole[:512+2],
		"bad checksum":     append([]byte("F"), whole[1:]...),
		"size beyond data": sizeBeyond(t),
	} {
		err := s.sendArchive(t, out+"/target", archive)
		if got := reasonOf(err); err == nil || got == "INTERNAL" || got == "Internal" || got == "Unknown" {
			t.Errorf("%s: %v (%s)", name, err, got)
		}
		if got := s.sh(t, "cd %s; ls -A target 2>/dev/null | grep -v '^file$'; :", out); got != "" {
			t.Errorf("%s: left %q", name, got)
		}
		_, err = s.client.Files().RemoveAll(s.context(t), out+"/target")
		must(t, err)
	}
	s.alive(t)
}

// sizeBeyond announces a file of a pebibyte.
func sizeBeyond(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Mode: 0o644, Size: 1 << 50}))
	_, err := w.Write(noise(5000))
	must(t, err)
	return b.Bytes()
}
