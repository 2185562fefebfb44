package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// specFlags are the options of commands that start a program.
type specFlags struct {
	id       string
	user     string
	dir      string
	env      []string
	envFiles []string
	cleanEnv bool
	timeout  time.Duration
	grace    time.Duration
	memory   string
	pids     int64
	cpus     float64
	rlimits  []string
	labels   []string
	buffer   string
}

func (f *specFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	// What follows the program is the program's.
	flags.SetInterspersed(false)
	flags.StringVar(&f.id, "id", "", "the process's `name`, to find it by (default: a random one)")
	flags.StringVarP(&f.user, "user", "u", "", "run as `NAME|UID[:GROUP|GID]` (default: the agent's own user)")
	flags.StringVarP(&f.dir, "workdir", "w", "", "run in this `directory` (default: the user's home)")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "set a variable, `NAME=VALUE`; NAME alone takes the value that it has here")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "set the variables of a `file`: lines as for --env, and #-comments")
	flags.BoolVar(&f.cleanEnv, "clean-env", false, "set no other variables than these")
	flags.DurationVar(&f.timeout, "timeout", 0, "end it after this `time`: TERM, later KILL, to all that descends from it")
	flags.DurationVar(&f.grace, "kill-after", 0, "`time` between TERM and KILL (default 5s)")
	flags.StringVar(&f.memory, "memory", "", "limit the memory of its whole tree to `bytes` (with K, M, G for powers of 1024)")
	flags.Int64Var(&f.pids, "pids", 0, "limit the `number` of processes of its tree")
	flags.Float64Var(&f.cpus, "cpus", 0, "limit its tree to so many `CPUs`, for example 1.5")
	flags.StringArrayVar(&f.rlimits, "rlimit", nil, "set a limit of setrlimit(2), `NAME=SOFT[:HARD]`, for example nofile=4096 or core=unlimited")
	flags.StringArrayVar(&f.labels, "label", nil, "attach a note, `NAME=VALUE`, that ps --json shows")
	flags.StringVar(&f.buffer, "buffer", "", "keep this many `bytes` of each output stream, to be read later (default 1M)")
}

// spec translates the options, but for the program.
func (f *specFlags) spec(a *app) (client.Spec, error) {
	if f.timeout < 0 || f.grace < 0 || f.pids < 0 || f.cpus < 0 || math.IsNaN(f.cpus) || f.cpus > 1e6 {
		return client.Spec{}, usagef("a limit must not be negative, nor absurd")
	}
	spec := client.Spec{
		ID:        f.id,
		User:      f.user,
		Dir:       f.dir,
		CleanEnv:  f.cleanEnv,
		Timeout:   f.timeout,
		KillGrace: f.grace,
		Limits:    client.Limits{Pids: f.pids, CPUMillis: int64(math.Ceil(f.cpus * 1000))},
	}
	for _, label := range f.labels {
		name, value, ok := strings.Cut(label, "=")
		if !ok || name == "" {
			return client.Spec{}, usagef("--label is NAME=VALUE, not %q", label)
		}
		if spec.Labels == nil {
			spec.Labels = make(map[string]string)
		}
		spec.Labels[name] = value
	}
	var err error
	if spec.Limits.Memory, err = parseSize("--memory", f.memory); err != nil {
		return client.Spec{}, err
	}
	if spec.OutputBuffer, err = parseSize("--buffer", f.buffer); err != nil {
		return client.Spec{}, err
	}
	if spec.Env, err = f.environment(a); err != nil {
		return client.Spec{}, err
	}
	for _, text := range f.rlimits {
		limit, err := parseRlimit(text)
		if err != nil {
			return client.Spec{}, err
		}
		spec.Rlimits = append(spec.Rlimits, limit)
	}
	return spec, nil
}

// environment is what --env-file and --env set, of which the latter win.
func (f *specFlags) environment(a *app) ([]string, error) {
	var env []string
	for _, path := range f.envFiles {
		file, err := os.Open(path)
		if err != nil {
			return nil, usageError{err}
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := strings.TrimLeft(lines.Text(), " \t")
			if line == "" || line[0] == '#' {
				continue
			}
			if env, err = a.addVariable(env, line); err != nil {
				break
			}
		}
		file.Close()
		if err == nil {
			err = lines.Err()
		}
		if err != nil {
			return nil, usagef("%s: %w", path, err)
		}
	}
	for _, text := range f.env {
		var err error
		if env, err = a.addVariable(env, text); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// addVariable adds NAME=VALUE, or NAME with the value it has here, if any.
func (a *app) addVariable(env []string, text string) ([]string, error) {
	name, _, given := strings.Cut(text, "=")
	if name == "" || strings.ContainsAny(name, " \t") {
		return nil, usagef("a variable is NAME=VALUE, not %q", text)
	}
	if given {
		return append(env, text), nil
	}
	if value, found := a.lookup(name); found {
		return append(env, name+"="+value), nil
	}
	return env, nil
}

// parseSize reads a number of bytes: "512", "64K", "1.5GiB". Empty is 0.
func parseSize(option, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number := strings.TrimRight(text, "KMGTiBkmgtb")
	shift := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
	unit := strings.TrimSuffix(strings.ToLower(text[len(number):]), "b")
	if len(unit) == 2 {
		unit = strings.TrimSuffix(unit, "i")
	}
	bits, known := shift[unit]
	value, err := strconv.ParseFloat(number, 64)
	size := value * float64(uint64(1)<<bits)
	if err != nil || !known || !(size >= 0 && size < math.MaxInt64/2) {
		return 0, usagef("%s: %q is not a size; write 512, 64K, 1.5M or 2G", option, text)
	}
	return int64(size), nil
}

func parseRlimit(text string) (client.Rlimit, error) {
	name, values, ok := strings.Cut(text, "=")
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	limit := client.Rlimit{Resource: strings.ToLower(name)}
	var err error
	if ok && name != "" {
		if limit.Soft, err = parseLimit(soft); err == nil {
			limit.Hard, err = parseLimit(hard)
		}
	}
	if !ok || name == "" || err != nil {
		return limit, usagef("--rlimit is NAME=SOFT[:HARD], not %q", text)
	}
	return limit, nil
}

func parseLimit(text string) (uint64, error) {
	if text == "unlimited" {
		return client.Unlimited, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number: %w", text, err)
	}
	return n, nil
}
