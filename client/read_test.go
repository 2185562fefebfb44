//go:build linux

package client_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// numbers is n bytes in which every place can be told from its neighbours.
func numbers(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return data
}

func TestReaderGivesAllInAnyPieces(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "file")
	data := numbers(3<<20 + 17)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(*client.Reader) ([]byte, error){
		"odd reads": func(r *client.Reader) ([]byte, error) {
			var got bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, 16<<10+7))
			return got.Bytes(), err
		},
		"one large buffer": func(r *client.Reader) ([]byte, error) {
			got := make([]byte, len(data))
			_, err := io.ReadFull(r, got)
			return got, err
		},
		"a read, then WriteTo": func(r *client.Reader) ([]byte, error) {
			head := make([]byte, 5000)
			if _, err := io.ReadFull(r, head); err != nil {
				return nil, err
			}
			rest := bytes.NewBuffer(head)
			n, err := r.WriteTo(rest)
			if n != int64(len(data)-len(head)) {
				t.Errorf("WriteTo says %d bytes", n)
			}
			return rest.Bytes(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := must[*client.Reader](t)(c.Files().Open(ctx, path, client.ReadOptions{}))
			closeLater(t, r)
			got, err := read(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, or not the right ones", len(got), len(data))
			}
		})
	}
}

// TestReaderOfAnotherAgent reads from one that uses gRPC's own codec, sends
// nothing at times, and what this package does not know.
func TestReaderOfAnotherAgent(t *testing.T) {
	part := func(data string) *guestdv1.ReadResponse {
		return &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Data{Data: []byte(data)}}
	}
	info := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Info{Info: &guestdv1.FileInfo{Name: "f"}}}
	end := func(n uint64) *guestdv1.ReadResponse {
		return &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_End{End: &guestdv1.ReadEnd{Bytes: n}}}
	}
	for _, test := range []struct {
		parts []*guestdv1.ReadResponse
		want  string
		err   error
	}{
		{[]*guestdv1.ReadResponse{info, part("ab"), part(""), {}, part("c"), end(3)}, "abc", nil},
		{[]*guestdv1.ReadResponse{info, end(0)}, "", nil},
		{[]*guestdv1.ReadResponse{info, part("ab"), end(3)}, "ab", client.ErrProtocol},
		{[]*guestdv1.ReadResponse{info, part("ab")}, "ab", client.ErrProtocol},
	} {
		files := serveFiles(t, &hostileFiles{read: test.parts}).Files()
		r, err := files.Open(t.Context(), "/f", client.ReadOptions{Checksum: client.NoChecksum})
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, r)
		got, err := io.ReadAll(r)
		if string(got) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%q, %v instead of %q, %v", got, err, test.want, test.err)
		}
		if _, again := r.Read(make([]byte, 1)); again == nil || test.err != nil && !errors.Is(again, test.err) {
			t.Errorf("after the end: %v", again)
		}
	}
}
