//go:build linux

// Package mountinfo reads the kernel's list of mounts, /proc/self/mountinfo, as
// proc(5) describes it.
package mountinfo

import (
	"os"
	"strings"
)

// A Mount is what is of use in one line of the list.
type Mount struct {
	Root  string // what of the file system is mounted: a path within it
	Point string // where
	Type  string // of the file system
}

// Read returns the mounts of the caller's namespace, in the kernel's order: what
// is mounted on something comes after it.
func Read() ([]Mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return Parse(string(text)), err
}

// Parse is [Read] of the list's text. It passes over lines that it does not
// understand.
func Parse(text string) []Mount {
	var mounts []Mount
	for line := range strings.Lines(text) {
		// A number of optional fields ends with a lone hyphen.
		head, tail, found := strings.Cut(line, " - ")
		fields := strings.Fields(head)
		kind, _, _ := strings.Cut(strings.TrimSpace(tail), " ")
		if found && len(fields) >= 6 && kind != "" {
			mounts = append(mounts, Mount{Root: unescape(fields[3]), Point: unescape(fields[4]), Type: kind})
		}
	}
	return mounts
}

// unescape undoes the kernel's \ooo for space, tab, newline, backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && len(s)-i >= 4 && isOctal(s[i+1], '3') && isOctal(s[i+2], '7') && isOctal(s[i+3], '7') {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c, highest byte) bool {
	return c >= '0' && c <= highest
}
