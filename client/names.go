package client

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Names in Linux are bytes, and so are Go's strings; protobuf's strings are
// UTF-8. This file alone passes between them: what is not UTF-8 travels in the
// raw_ field next to the string.

// toWire returns s for a string field and its raw_ companion.
func toWire(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// fromWire is the reverse of toWire: raw wins, the string next to it being a
// rendering for people.
func fromWire(s string, raw []byte) string {
	if len(raw) > 0 {
		return string(raw)
	}
	return s
}

// argsToWire returns args for args, or for raw_args if one of them needs it.
func argsToWire(args []string) ([]string, [][]byte) {
	for _, arg := range args {
		if !utf8.ValidString(arg) {
			raw := make([][]byte, len(args))
			for i, arg := range args {
				raw[i] = []byte(arg)
			}
			return nil, raw
		}
	}
	return args, nil
}

// argsFromWire is the reverse of argsToWire.
func argsFromWire(args []string, raw [][]byte) []string {
	if len(raw) == 0 {
		return args
	}
	args = make([]string, len(raw))
	for i, arg := range raw {
		args[i] = string(arg)
	}
	return args
}

// envToWire splits "NAME=VALUE" entries; the last of a name wins, as in
// exec.Cmd.
func envToWire(env []string) (map[string]string, map[string][]byte, error) {
	if len(env) == 0 {
		return nil, nil, nil
	}
	text := make(map[string]string, len(env))
	var raw map[string][]byte
	for _, entry := range env {
		name, value, found := strings.Cut(entry, "=")
		if !found || name == "" || !utf8.ValidString(name) {
			return nil, nil, fmt.Errorf("environment entry %q is not NAME=VALUE", entry)
		}
		delete(raw, name)
		if utf8.ValidString(value) {
			text[name] = value
			continue
		}
		if raw == nil {
			raw = make(map[string][]byte)
		}
		delete(text, name)
		raw[name] = []byte(value)
	}
	return text, raw, nil
}

// printable makes text from the guest fit for a terminal and a log: what could
// move the cursor or begin a new line is written as an escape.
func printable(s string) string {
	unprintable := func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError }
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	quoted := fmt.Sprintf("%+q", s)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}
