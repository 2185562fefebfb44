//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/guestd/guestd/vsock"
)

// config is everything that `guestd serve` can be told, in the form of its
// file. Options of the command line win over the file.
type config struct {
	Listen                []string   `json:"listen"`
	SSH                   []string   `json:"ssh"`
	Allow                 []string   `json:"allow"`
	RequirePrivilegedPort bool       `json:"require_privileged_port"`
	OutputBufferBytes     int        `json:"output_buffer_bytes"`
	OutputTotalBytes      int64      `json:"output_total_bytes"`
	Retention             duration   `json:"retention"`
	LogLevel              slog.Level `json:"log_level"`
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

const serveUsage = `Serve until SIGTERM.

Usage: guestd serve [options]

Addresses are vsock::PORT, or unix:PATH for development. Only the host is
served: context id 2 on vsock; root and the agent's own user on a unix socket.

Options:
`

// parseConfig reads the options of `guestd serve` and the file they name. Its
// errors are usageErrors, or flag.ErrHelp once help was printed to stderr.
func parseConfig(args []string, stderr io.Writer) (config, error) {
	var flags struct {
		config
		file string
	}
	set := flag.NewFlagSet("guestd serve", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, serveUsage)
		set.PrintDefaults()
	}
	set.StringVar(&flags.file, "config", "", "read a configuration `file` (JSON; its keys are these options' names with _ for -)")
	set.Var((*list)(&flags.Listen), "listen", "serve gRPC on this `address`; may be repeated (default "+defaultListen+")")
	set.Var((*list)(&flags.SSH), "ssh", "serve SSH on this `address`; may be repeated; "+noSSH+" serves none (default "+defaultSSH+" beside gRPC on vsock, unless another server has it)")
	set.Var((*list)(&flags.Allow), "allow", "serve only this `method` or service, for example guestd.v1.FileService/Read; may be repeated (default all)")
	set.BoolVar(&flags.RequirePrivilegedPort, "require-privileged-port", false, "refuse source ports of 1024 and more on vsock: only root may bind the others on the host")
	set.IntVar(&flags.OutputBufferBytes, "output-buffer-bytes", 0, "output to keep for each stream of a process (default 1 MiB)")
	set.Int64Var(&flags.OutputTotalBytes, "output-total-bytes", 0, "output to keep for all processes together (default 256 MiB, or an eighth of the memory)")
	set.DurationVar((*time.Duration)(&flags.Retention), "retention", 0, "how long to keep the exit and output of an ended process (default 5m)")
	set.TextVar(&flags.LogLevel, "log-level", slog.LevelInfo, "log this `level` and worse: debug, info, warn, error")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return config{}, err
		}
		// Package flag has printed the error and the usage.
		return config{}, usageError{err}
	}
	if set.NArg() > 0 {
		return config{}, usageError{fmt.Errorf("serve takes no arguments, only options: %q", set.Arg(0))}
	}

	var c config
	if flags.file != "" {
		var err error
		if c, err = readConfig(flags.file); err != nil {
			return config{}, usageError{err}
		}
	}
	set.Visit(func(f *flag.Flag) { c.override(f.Name, flags.config) })
	if err := c.check(); err != nil {
		return config{}, usageError{err}
	}
	return c, nil
}

// readConfig reads a configuration file. A key that is not known is an error:
// a misspelt "allow" must not open every door.
func readConfig(path string) (config, error) {
	file, err := os.Open(path)
	if err != nil {
		return config{}, fmt.Errorf("configuration: %w", err)
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var c config
	if err := decoder.Decode(&c); err != nil {
		return config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return config{}, fmt.Errorf("configuration %s: something follows the object", path)
	}
	return c, nil
}

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
	addresses, _ := c.ssh()
	return checkAddresses("--ssh", addresses)
}

// ssh returns the addresses of the SSH server, and whether they were asked for.
// The default goes with gRPC on vsock: an agent on a unix socket, as under
// development, opens no other door.
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

// duration is a time.Duration written as "5m" in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}
