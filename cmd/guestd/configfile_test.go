//go:build linux

package main

import "testing"

// Whatever is in the file, a mistake has a place in it, and nothing that the
// options refuse comes in by it.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"", "null", "[]", "{", `{"listen": ["vsock::1024"], "ssh": []}`, `{"retention": "5m", "log_level": "warn"}`,
		`{"retention": "-5m"}`, `{"allow": null}`, `{"allow": [], "allow": []}`, `{"output_total_bytes": 1e3}`, "{}\n{}", `{"\u0061llow": [1]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var c config
		offset, err := c.parse(text)
		if offset < 0 || offset > int64(len(text)) || err == nil && offset != 0 {
			t.Errorf("offset %d of %d, %v", offset, len(text), err)
		}
		if c.Retention < 0 {
			t.Errorf("retention %v", c.Retention)
		}
	})
}
