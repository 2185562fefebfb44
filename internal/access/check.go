//go:build linux

package access

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a grant.
const (
	maxIDBytes      = 64
	maxUserBytes    = 256
	maxLabelBytes   = 256
	maxCommandBytes = 64 << 10
	maxEnvEntries   = 256
	maxEnvBytes     = 64 << 10
)

// normalize returns a copy of g that shares nothing with it, with defaults in
// place of zeros, and its credential and the key's type. The error is a
// *[GrantError].
func (g Grant) normalize() (Grant, credential, string, error) {
	cred, keyType, err := g.checkCredential()
	if err != nil {
		return Grant{}, credential{}, "", err
	}
	if err := g.checkText(); err != nil {
		return Grant{}, credential{}, "", err
	}
	if err := g.Permissions.check(); err != nil {
		return Grant{}, credential{}, "", err
	}
	n := g.clone()
	if n.TTL == 0 {
		n.TTL = DefaultTTL
	}
	if n.MaxConnections == 0 {
		n.MaxConnections = 1
	}
	n.TTL = max(n.TTL, -1)
	n.MaxConnections = max(n.MaxConnections, -1)
	return n, cred, keyType, nil
}

// size is about what the grant takes in memory, in bytes.
func (g Grant) size() int {
	const fixed = 512
	n := fixed + len(g.ID) + len(g.Key) + len(g.User) + len(g.Label) + len(g.Command)
	for _, entry := range g.Env {
		n += len(entry)
	}
	if g.Permissions != nil {
		for _, f := range g.Permissions.forwardings() {
			for _, target := range f.Targets {
				n += len(target)
			}
		}
	}
	return n
}

// clone returns a copy that shares nothing.
func (g Grant) clone() Grant {
	g.Key = bytes.Clone(g.Key)
	g.SecretHash = bytes.Clone(g.SecretHash)
	g.Permissions = g.Permissions.clone()
	g.Env = slices.Clone(g.Env)
	return g
}

// equal reports whether two normalized grants ask for the same, but for the
// credential, which their owner compares.
func (g Grant) equal(other Grant) bool {
	return g.User == other.User && g.TTL == other.TTL && g.MaxConnections == other.MaxConnections &&
		g.Permissions.equal(other.Permissions) && g.Command == other.Command &&
		slices.Equal(g.Env, other.Env) && g.Label == other.Label && g.Client == other.Client
}

func (g Grant) checkCredential() (credential, string, error) {
	switch {
	case len(g.Key) > 0 && len(g.SecretHash) > 0:
		return credential{}, "", &GrantError{"SecretHash", "cannot be combined with Key"}
	case len(g.Key) > 0:
		blob, keyType, err := parseKey(g.Key)
		if err != nil {
			return credential{}, "", err
		}
		return keyCredential(blob), keyType, nil
	case len(g.SecretHash) == sha256.Size:
		return credential{secret: true, sum: [sha256.Size]byte(g.SecretHash)}, "", nil
	case len(g.SecretHash) > 0:
		return credential{}, "", &GrantError{"SecretHash", "is not a SHA-256: it has " + strconv.Itoa(len(g.SecretHash)) + " bytes"}
	}
	return credential{}, "", &GrantError{"Key", "there is neither a key nor the hash of a secret"}
}

func (g Grant) checkText() error {
	switch {
	case g.ID != "" && !validID(g.ID):
		return &GrantError{"ID", "is not of 1 to 64 characters of [A-Za-z0-9._-], beginning with a letter or digit"}
	case len(g.User) > maxUserBytes || !printable(g.User) || strings.ContainsAny(g.User, ":/ "):
		return &GrantError{"User", "is not a user's name or number"}
	case len(g.Label) > maxLabelBytes || !printable(g.Label):
		return &GrantError{"Label", "is not printable text of at most " + strconv.Itoa(maxLabelBytes) + " bytes"}
	case len(g.Command) > maxCommandBytes:
		return &GrantError{"Command", "has more than " + strconv.Itoa(maxCommandBytes) + " bytes"}
	case strings.Contains(g.Command, "\x00") || !utf8.ValidString(g.Command):
		return &GrantError{"Command", "is not UTF-8 without NUL"}
	}
	return g.checkEnv()
}

func (g Grant) checkEnv() error {
	total := 0
	for _, entry := range g.Env {
		name, _, ok := strings.Cut(entry, "=")
		if !ok || name == "" || strings.Contains(entry, "\x00") {
			// Not the entry itself: it may be a secret.
			return &GrantError{"Env", "an entry is not KEY=value"}
		}
		total += len(entry)
	}
	if len(g.Env) > maxEnvEntries || total > maxEnvBytes {
		return &GrantError{"Env", "is more than " + strconv.Itoa(maxEnvEntries) + " entries or " + strconv.Itoa(maxEnvBytes) + " bytes"}
	}
	return nil
}

// validID reports whether id has the form that names of grants have.
func validID(id string) bool {
	if id == "" || len(id) > maxIDBytes {
		return false
	}
	for i, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// printable reports whether text is UTF-8 without control characters.
func printable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// clip cuts text to about limit bytes, with an ellipsis where it was longer.
// What is not UTF-8 stays so.
func clip(text string, limit int) string {
	const ellipsis = "…"
	if len(text) <= limit {
		return text
	}
	cut := limit - len(ellipsis)
	for cut > 0 && limit-cut < utf8.UTFMax+len(ellipsis) && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}
