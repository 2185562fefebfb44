//go:build linux

package agent

import (
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestEntryFields(t *testing.T) {
	for _, message := range []proto.Message{&guestdv1.ReadDirResponse{}, &guestdv1.WalkResponse{}, &guestdv1.GlobResponse{}} {
		descriptor := message.ProtoReflect().Descriptor()
		if got := descriptor.Fields().ByName("entries").Number(); got != entriesField {
			t.Errorf("%s.entries is field %d, not %d", descriptor.Name(), got, entriesField)
		}
	}
	fields := (&guestdv1.FileInfo{}).ProtoReflect().Descriptor().Fields()
	for name, want := range map[string]protowire.Number{
		"name": infoName, "raw_name": infoRawName, "path": infoPath, "raw_path": infoRawPath, "type": infoType,
	} {
		if got := fields.ByTextName(name).Number(); got != want || protowire.SizeTag(want) != 1 {
			t.Errorf("FileInfo.%s is field %d, not %d", name, got, want)
		}
	}
}

// FuzzEntries encodes entries by hand and reads them with the library.
func FuzzEntries(f *testing.F) {
	f.Add("name", "", uint32(unix.S_IFREG))
	f.Add("na\xffme", "dir/na\xffme", uint32(unix.S_IFDIR))
	f.Add("name", "dir/name", uint32(0))
	f.Add("", "", uint32(unix.S_IFSOCK))
	f.Fuzz(func(t *testing.T, name, path string, mode uint32) {
		var batch entryBatch
		full := &fsops.FileInfo{Name: name, Mode: mode, Size: 7, LinkTarget: path}
		for _, entry := range []fsops.DirEntry{{Name: name, Type: mode}, {Name: name, Info: full}, {Name: name, Type: mode}} {
			if err := batch.add(&entry, path); err != nil {
				t.Fatal(err)
			}
		}
		response := &guestdv1.ReadDirResponse{NextPageToken: []byte("token")}
		batch.into(response)
		encoded, err := proto.Marshal(response)
		if err != nil {
			t.Fatal(err)
		}
		var got guestdv1.ReadDirResponse
		if err := proto.Unmarshal(encoded, &got); err != nil {
			t.Fatal(err)
		}
		plain := &guestdv1.FileInfo{Type: fileType(mode)}
		plain.Name, plain.RawName = wirePath(name)
		plain.Path, plain.RawPath = wirePath(path)
		want := &guestdv1.ReadDirResponse{
			Entries:       []*guestdv1.FileInfo{plain, new(infos).wire(full, path), plain},
			NextPageToken: []byte("token"),
		}
		if !proto.Equal(&got, want) {
			t.Errorf("%v instead of %v", &got, want)
		}
	})
}
