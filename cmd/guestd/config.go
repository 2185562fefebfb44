//go:build linux

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/guestd/guestd/vsock"
)

// config is everything that `guestd serve` can be told, by its options or by
// its file. Options win over the file.
type config struct {
	Listen                []string
	SSH                   []string
	Allow                 []string // nil allows every method
	RequirePrivilegedPort bool
	OutputBufferBytes     int      // 0 is package proc's default
	OutputTotalBytes      int64    // 0 is a share of the machine's memory
	Retention             duration // 0 is package proc's default
	LogLevel              level
}

// defaultListen is any context id, port 1024: the host dials the guest's id,
// which may change when a snapshot is cloned.
const defaultListen = "vsock::1024"

const (
	// defaultSSH is the port that ssh expects. Another server that has it
	// already is no reason to fail, unless the address was asked for.
	defaultSSH = "vsock::22"
	// noSSH in place of an address turns the SSH server off.
	noSSH = "none"
)

// override takes over the option that was given by name.
func (c *config) override(name string, flags config) {
	switch name {
	case "listen":
		c.Listen = flags.Listen
	case "ssh":
		c.SSH = flags.SSH
	case "allow":
		c.Allow = flags.Allow
	case "require-privileged-port":
		c.RequirePrivilegedPort = flags.RequirePrivilegedPort
	case "output-buffer-bytes":
		c.OutputBufferBytes = flags.OutputBufferBytes
	case "output-total-bytes":
		c.OutputTotalBytes = flags.OutputTotalBytes
	case "retention":
		c.Retention = flags.Retention
	case "log-level":
		c.LogLevel = flags.LogLevel
	}
}

func (c *config) check() error {
	if c.OutputBufferBytes < 0 || c.OutputTotalBytes < 0 {
		return errors.New("output sizes must not be negative")
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{defaultListen}
	}
	if err := checkAddresses("--listen", c.Listen); err != nil {
		return err
	}
	if len(c.SSH) > 1 && slices.Contains(c.SSH, noSSH) {
		return fmt.Errorf("--ssh %s turns SSH off and cannot be combined with an address", noSSH)
	}
	addresses, _ := c.ssh()
	return checkAddresses("--ssh", addresses)
}

// ssh returns the addresses of the SSH server, and whether they were asked for.
// The default goes with gRPC on vsock: an agent on a unix socket, as under
// development, serves nothing else.
func (c *config) ssh() (addresses []string, chosen bool) {
	switch {
	case slices.Equal(c.SSH, []string{noSSH}):
		return nil, true
	case len(c.SSH) > 0:
		return c.SSH, true
	}
	onVsock := func(text string) bool {
		address, err := vsock.ParseAddr(text)
		return err == nil && address.Transport == vsock.VM
	}
	if slices.ContainsFunc(c.Listen, onVsock) {
		return []string{defaultSSH}, false
	}
	return nil, false
}

func checkAddresses(option string, addresses []string) error {
	for _, text := range addresses {
		address, err := vsock.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
		if address.Transport == vsock.Hybrid {
			return fmt.Errorf("%s %s: a hybrid socket is the host's; in the guest listen on vsock::%d", option, text, address.Port)
		}
	}
	return nil
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// duration is a time.Duration written as "5m", and never negative.
type duration time.Duration

var errDuration = errors.New(`want a duration such as "5m" or "90s"`)

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed < 0 {
		return errDuration
	}
	*d = duration(parsed)
	return nil
}

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// level is a slog.Level with an error that lists the names.
type level slog.Level

var errLevel = errors.New("want debug, info, warn or error")

func (l *level) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return errLevel
	}
	return nil
}

func (l level) MarshalText() ([]byte, error) { return slog.Level(l).MarshalText() }
