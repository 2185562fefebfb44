//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// A setting is a key of the configuration file.
type setting struct {
	target any    // points into a config
	want   string // what the value has to be
}

// settings are the keys of the configuration file, and where in c their values
// go.
func (c *config) settings() map[string]setting {
	return map[string]setting{
		"listen":                  {&c.Listen, "a list of addresses"},
		"ssh":                     {&c.SSH, "a list of addresses"},
		"allow":                   {&c.Allow, "a list of methods and services"},
		"require_privileged_port": {&c.RequirePrivilegedPort, "true or false"},
		"output_buffer_bytes":     {&c.OutputBufferBytes, "a whole number"},
		"output_total_bytes":      {&c.OutputTotalBytes, "a whole number"},
		"retention":               {&c.Retention, `a duration such as "5m" or "90s"`},
		"log_level":               {&c.LogLevel, `"debug", "info", "warn" or "error"`},
	}
}

// readConfig reads a configuration file. Its errors begin with the file and,
// where it is about one, the line.
func readConfig(path string) (config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return config{}, fmt.Errorf("configuration: %w", err)
	}
	var c config
	if offset, err := c.parse(text); err != nil {
		line := 1 + bytes.Count(text[:offset], []byte("\n"))
		return config{}, fmt.Errorf("configuration %s:%d: %w", path, line, err)
	}
	return c, nil
}

// parse takes over the settings of a JSON object. A key that is not known or
// is given twice is an error: a misspelt "allow" must not allow everything. With
// an error it returns how far into text it came.
func (c *config) parse(text []byte) (offset int64, err error) {
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = syntax.Offset
		}
		return offset, err
	}
	settings := c.settings()
	known := strings.Join(slices.Sorted(maps.Keys(settings)), ", ")
	seen := make(map[string]bool)

	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return decoder.InputOffset(), errors.New("want an object: {\"listen\": …}")
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return decoder.InputOffset(), err
		}
		key, _ := token.(string) // the syntax is right
		switch _, ok := settings[key]; {
		case !ok:
			return decoder.InputOffset(), fmt.Errorf("unknown key %q; the keys are %s", key, known)
		case seen[key]:
			return decoder.InputOffset(), fmt.Errorf("%q is given twice", key)
		}
		seen[key] = true
		offset = decoder.InputOffset()
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return offset, err
		}
		if err := settings[key].set(value); err != nil {
			return offset, fmt.Errorf("%q: %w", key, err)
		}
	}
	return 0, nil
}

// set stores a value. null, which package json would skip, is none.
func (s setting) set(value json.RawMessage) error {
	if string(value) == "null" || json.Unmarshal(value, s.target) != nil {
		return fmt.Errorf("%s: want %s", value, s.want)
	}
	return nil
}
