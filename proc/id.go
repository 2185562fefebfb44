//go:build linux

package proc

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// maxID bounds ids and boot ids, so that an id is a file name everywhere.
const maxID = 64

// newID draws an id with 65 random bits: short enough to be typed, and not to
// be guessed.
func newID() string { return strings.ToLower(rand.Text()[:13]) }

// validID checks an id of a caller's choice.
func validID(field, id string) error {
	if len(id) < 1 || len(id) > maxID {
		return &SpecError{Field: field, Reason: fmt.Sprintf("is %d characters long, not 1 to %d", len(id), maxID)}
	}
	for i := range len(id) {
		c := id[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return &SpecError{Field: field, Reason: fmt.Sprintf("%q has other characters than [A-Za-z0-9._-], or does not begin with a letter or digit", id)}
		}
	}
	return nil
}

// resolveID turns an id or a handle ("BOOTID/ID") into an id. A handle of
// another boot is ErrStale: its id may by now be somebody else's.
func (t *Table) resolveID(id string) (string, error) {
	boot, rest, isHandle := strings.Cut(id, "/")
	if !isHandle {
		return id, nil
	}
	if boot != t.boot {
		return "", fmt.Errorf("process %q: %w", id, ErrStale)
	}
	return rest, nil
}
