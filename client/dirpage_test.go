package client

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestPageFields(t *testing.T) {
	page := (&guestdv1.ReadDirResponse{}).ProtoReflect().Descriptor().Fields()
	entry := (&guestdv1.FileInfo{}).ProtoReflect().Descriptor().Fields()
	for name, want := range map[protowire.Number]protowire.Number{
		page.ByName("entries").Number():         pageEntries,
		page.ByName("next_page_token").Number(): pageToken,
	} {
		if name != want {
			t.Errorf("field %d of a page is taken for %d", name, want)
		}
	}
	if entry.ByName("name").Number() != entryName || entry.ByName("type").Number() != entryKind {
		t.Error("the fields of an entry have other numbers")
	}
}

func TestPageEntries(t *testing.T) {
	const count = 3*blockEntries + 1
	page := &guestdv1.ReadDirResponse{NextPageToken: []byte("token")}
	for i := range count {
		info := &guestdv1.FileInfo{Name: strings.Repeat("n", 1+i), Type: guestdv1.FileType(i % 8)}
		switch i % 10 {
		case 3:
			info.RawName = []byte("raw\xff")
		case 7:
			info.Size, info.Mode = uint64(i), 0o4711
		}
		page.Entries = append(page.Entries, info)
	}
	n := 0
	for info, err := range mustPage(t, page).entries() {
		if err != nil {
			t.Fatal(err)
		}
		sent := page.GetEntries()[n]
		if want := fromWire(sent.GetName(), sent.GetRawName()); info.Name() != want {
			t.Errorf("entry %d is %q instead of %q", n, info.Name(), want)
		}
		if want := modeFromWire(sent.GetType(), sent.GetMode()); info.Mode() != want || info.Type() != want.Type() {
			t.Errorf("entry %d has mode %v and type %v instead of %v", n, info.Mode(), info.Type(), want)
		}
		if !proto.Equal(info.Sys().(*guestdv1.FileInfo), sent) || info.Size() != int64(sent.GetSize()) {
			t.Errorf("entry %d is %v instead of %v", n, info.Sys(), sent)
		}
		n++
	}
	if n != count {
		t.Errorf("%d entries instead of %d", n, count)
	}
}

func mustPage(t *testing.T, message *guestdv1.ReadDirResponse) *dirPage {
	t.Helper()
	encoded, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	page, err := parsePage(encoded)
	if err != nil || string(page.token) != string(message.GetNextPageToken()) {
		t.Fatalf("token %q, %v", page.token, err)
	}
	return &page
}

// FuzzPage decodes what a guest sends by hand and by the library.
func FuzzPage(f *testing.F) {
	for _, message := range []*guestdv1.ReadDirResponse{
		{},
		{NextPageToken: []byte("t")},
		{Entries: []*guestdv1.FileInfo{{Name: "a", Type: 1}, {Name: "b", Type: 2}}, NextPageToken: []byte("t")},
		{Entries: []*guestdv1.FileInfo{{Name: "c", Size: 5}, {RawName: []byte("\xff"), Type: -1}, {}}},
	} {
		encoded, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Add([]byte("\x0a\x03\x0a\x01\xff")) // no UTF-8
	f.Add([]byte("\x0a\x06\x0a\x01a\x0a\x01b"))
	f.Add([]byte("\x0a\x7f"))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var want guestdv1.ReadDirResponse
		wantErr := proto.Unmarshal(encoded, &want)
		page, err := parsePage(encoded)
		n := 0
		if err == nil {
			for info, entryErr := range page.entries() {
				if err = entryErr; err != nil {
					break
				}
				if n >= len(want.GetEntries()) {
					n++
					break // the library stopped at an error, or we read too many
				}
				sent := want.GetEntries()[n]
				n++
				if wantErr == nil && (info.Name() != fromWire(sent.GetName(), sent.GetRawName()) || info.Mode() != modeFromWire(sent.GetType(), sent.GetMode())) {
					t.Errorf("entry %d is %v instead of %v", n-1, info, sent)
				}
			}
		}
		switch {
		case err != nil && !errors.Is(err, ErrProtocol):
			t.Errorf("error %v", err)
		case wantErr != nil && err == nil:
			t.Errorf("the library finds %v, we do not", wantErr)
		case wantErr == nil && err == nil && (n != len(want.GetEntries()) || string(page.token) != string(want.GetNextPageToken())):
			t.Errorf("%d entries and token %q instead of %v", n, page.token, &want)
		case wantErr == nil && err != nil && n < len(want.GetEntries()) && isElement(infoFromWire(want.GetEntries()[n]).Name()):
			t.Errorf("entry %d is good, but gives %v", n, err)
		case wantErr == nil && err != nil && n == len(want.GetEntries()):
			t.Errorf("all entries are good, but there is %v", err)
		}
	})
}
