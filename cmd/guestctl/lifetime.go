package main

import (
	"fmt"
	"strconv"
	"time"
)

// lifetime is a flag for how long a grant is good: 0 is the default, and a
// negative one never ends. It is a pflag.Value.
type lifetime time.Duration

func (l *lifetime) String() string {
	switch {
	case *l < 0:
		return "never"
	case *l == 0:
		return ""
	}
	return time.Duration(*l).String()
}

// Set parses a duration, or "never".
func (l *lifetime) Set(text string) error {
	if text == "never" {
		*l = -1
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time; write for example 90s, 12h or never", text)
	}
	*l = lifetime(d)
	return nil
}

// Type names the flag's value in help texts that do not.
func (*lifetime) Type() string { return "time" }

// count is a flag for how often a grant is good: 0 is the default, and a
// negative one is any number. It is a pflag.Value.
type count int

func (c *count) String() string {
	switch {
	case *c < 0:
		return "unlimited"
	case *c == 0:
		return ""
	}
	return strconv.Itoa(int(*c))
}

// Set parses a number, or "unlimited", for which -1 is another word.
func (c *count) Set(text string) error {
	if text == "unlimited" || text == "-1" {
		*c = -1
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number; write for example 1, 10 or unlimited", text)
	}
	*c = count(n)
	return nil
}

// Type names the flag's value in help texts that do not.
func (*count) Type() string { return "number" }
