package main

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// defaultDetachKeys leave a program running, as in other tools.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// detachKeys parses keys separated by commas: "ctrl-x" (x is a letter or one of
// @[\]^_) or a character. Empty is the default if that is wanted, else nothing;
// "none" is nothing.
func detachKeys(text string, wanted bool) ([]byte, error) {
	switch {
	case text == "none" || text == "" && !wanted:
		return nil, nil
	case text == "":
		text = defaultDetachKeys
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		control, isControl := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case isControl && len(control) == 1 && (control[0] >= 'a' && control[0] <= 'z' || strings.Contains(`@[\]^_`, control)):
			keys = append(keys, control[0]&0x1f)
		case len(key) == 1 && key[0] < 0x80:
			keys = append(keys, key[0])
		default:
			return nil, usagef("--detach-keys: %q is not a key; write for example %s or none", key, defaultDetachKeys)
		}
	}
	return keys, nil
}

// detachReader is a terminal's input that looks for the keys to detach. Once
// they were typed, Read blocks until release: an end or an error would be
// passed on to the program, which is to run on undisturbed.
type detachReader struct {
	source   io.Reader
	keys     []byte
	detached chan struct{} // closed when the keys were typed

	passed   []byte // typed, and to be read
	held     []byte // typed after that, and the beginning of keys
	err      error  // the source's, to be told after passed
	found    bool
	released chan struct{}
	once     sync.Once
}

// newDetachReader looks for keys; for none it only reads.
func newDetachReader(source io.Reader, keys []byte) *detachReader {
	return &detachReader{source: source, keys: keys, detached: make(chan struct{}), released: make(chan struct{})}
}

func (r *detachReader) Read(p []byte) (int, error) {
	if len(r.keys) == 0 || len(p) == 0 {
		return r.source.Read(p)
	}
	for len(r.passed) == 0 {
		switch {
		case r.found:
			<-r.released
			return 0, io.EOF
		case r.err != nil:
			return 0, r.err
		}
		r.more(len(p))
	}
	n := copy(p, r.passed)
	r.passed = r.passed[n:]
	return n, nil
}

// more reads once, and passes on what it may.
func (r *detachReader) more(size int) {
	typed := make([]byte, size)
	n, err := r.source.Read(typed)
	r.passed = r.filter(r.passed, typed[:n])
	switch {
	case r.found:
		close(r.detached)
	case err != nil:
		r.err = err
		r.passed = append(r.passed, r.held...)
	}
}

// filter appends to passed what of typed is not, or no longer, the beginning of
// keys. What follows the keys is dropped.
func (r *detachReader) filter(passed, typed []byte) []byte {
	for _, b := range typed {
		r.held = append(r.held, b)
		if bytes.Equal(r.held, r.keys) {
			r.found = true
			return passed
		}
		for !bytes.HasPrefix(r.keys, r.held) {
			passed = append(passed, r.held[0])
			r.held = r.held[1:]
		}
	}
	return passed
}

// release lets a Read end that blocks because of the keys.
func (r *detachReader) release() { r.once.Do(func() { close(r.released) }) }
