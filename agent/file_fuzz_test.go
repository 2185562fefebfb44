//go:build linux

package agent

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

// FuzzPageToken reads tokens that a client may have made up.
func FuzzPageToken(f *testing.F) {
	f.Add([]byte{})
	f.Add(pageToken{dev: 7, ino: 9, cookie: 11}.marshal())
	f.Add(pageToken{dev: 7, ino: 9, cookie: -1}.marshal())
	f.Fuzz(func(t *testing.T, token []byte) {
		position := pageToken{dev: 7, ino: 9}
		err := position.resume(token)
		if err == nil && (position.cookie < 0 || !bytes.Equal(position.marshal(), token)) {
			t.Errorf("%x is taken for %+v", token, position)
		}
		if err != nil && position != (pageToken{dev: 7, ino: 9}) {
			t.Errorf("%x is refused, but moves to %+v", token, position)
		}
	})
}

// FuzzPathFields carries paths over the wire and back.
func FuzzPathFields(f *testing.F) {
	f.Add("/tmp/file")
	f.Add("na\xefve \uFFFD \xff")
	f.Fuzz(func(t *testing.T, path string) {
		text, raw := wirePath(path)
		if !utf8.ValidString(text) {
			t.Errorf("%q is sent as %q", path, text)
		}
		if utf8.ValidString(path) != (raw == nil) {
			t.Errorf("%q is sent with raw bytes %q", path, raw)
		}
		back, err := optionalPath("path", text, raw)
		if nul := bytes.IndexByte([]byte(path), 0) >= 0; nul != (err != nil) || err == nil && back != path {
			t.Errorf("%q comes back as %q, %v", path, back, err)
		}
	})
}
