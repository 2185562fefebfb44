//go:build linux

package boot

import (
	"os"
	"strings"
)

// mountEntry is what is needed of one line of /proc/self/mountinfo (proc(5)).
type mountEntry struct {
	target string
	kind   string // file system type
}

func readMounts() ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return parseMounts(string(text)), err
}

// parseMounts passes over lines that it does not understand. The order is the
// kernel's: what is mounted on something comes after it.
func parseMounts(text string) []mountEntry {
	var mounts []mountEntry
	for line := range strings.Lines(text) {
		// A number of optional fields ends with a lone hyphen.
		head, tail, found := strings.Cut(line, " - ")
		fields := strings.Fields(head)
		kind, _, _ := strings.Cut(strings.TrimSpace(tail), " ")
		if found && len(fields) >= 6 && kind != "" {
			mounts = append(mounts, mountEntry{target: unescapeMount(fields[4]), kind: kind})
		}
	}
	return mounts
}

// unescapeMount undoes the kernel's \ooo for space, tab, newline, backslash.
func unescapeMount(s string) string {
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
