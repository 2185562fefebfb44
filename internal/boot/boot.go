//go:build linux

package boot

import (
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// ErrNotInit is returned by [Run] in a process that is not PID 1.
var ErrNotInit = errors.New("boot: this process is not pid 1")

// Config says how PID 1 brings up the system and the agent. The zero value
// boots a machine and starts `guestd serve`.
type Config struct {
	// Command returns the agent's arguments, without the program: the agent is
	// always this binary again. It is called once, after the command line was
	// read. Nil means `serve` with the --listen, --ssh and --config of the options.
	Command func(Options) []string

	// Env is added to PID 1's own environment for the agent ("K=V"), and
	// wins over it.
	Env []string

	// Modules are kernel modules to load, with what they depend on, before the
	// agent starts. Those which are built in or not installed are passed over.
	// Nil means the vsock transports of QEMU, Firecracker and Cloud Hypervisor.
	Modules []string

	// Tmp mounts a tmpfs on /tmp unless something is mounted there.
	Tmp bool

	// Grace is how long processes have between SIGTERM and SIGKILL when the
	// machine ends. Zero means 5 s; negative means none.
	Grace time.Duration

	// Container says that the kernel is not ours alone: PID 1 of a pid
	// namespace. Command line, modules, cgroups and file systems then belong to
	// somebody else, and the end is an exit instead of reboot(2). It is implied
	// by the variable `container` in the environment, as for systemd.
	Container bool

	// Log gets one record per step that failed and per event afterwards. Nil
	// means the kernel's log in a machine, stderr in a container.
	Log *slog.Logger
}

const (
	defaultGrace = 5 * time.Second

	// defaultPath is for a kernel, which starts init without a PATH.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	// exitReboot is how PID 1 of a container asks for being started again, as
	// systemd does.
	exitReboot = 133

	// memoryLimit is where the collector starts to work in PID 1, whose heap is
	// some hundred kilobytes: far enough that an idle PID 1 never collects.
	memoryLimit = 8 << 20
)

// Run is PID 1. It brings the system up, keeps an agent running, and ends the
// machine when a signal asks for it (see the package's documentation).
//
// No step of bringing up is fatal: each failure is logged and the agent is
// started all the same, because an agent that answers is the only way to find
// out what is wrong.
//
// In a machine Run does not return. In a container it returns the status which
// the caller must exit with: 0, or 133 for a reboot. The error is [ErrNotInit]
// and nothing has been done then.
func Run(cfg Config) (status int, err error) {
	if os.Getpid() != 1 {
		return 1, ErrNotInit
	}
	// The agent is where memory is needed. Without periodic collections an
	// idle PID 1 neither wakes up nor dirties pages.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)

	cfg = cfg.withDefaults()
	signals := watchSignals()
	options := bringUp(&cfg)
	s := &supervisor{
		log:       cfg.Log,
		signals:   signals,
		container: cfg.Container,
		agent:     agentCommand(cfg, options),
	}
	defer s.agent.close()
	action := s.run()
	cfg.Log.Info("stopping", "action", action.String())
	s.terminate(max(cfg.Grace, 0))
	if cfg.Container {
		if action == Reboot {
			return exitReboot, nil
		}
		return 0, nil
	}
	endMachine(action, options.PowerOffByReboot, cfg.Log)
	return 0, nil
}

func (cfg Config) withDefaults() Config {
	cfg.Container = cfg.Container || os.Getenv("container") != ""
	if cfg.Command == nil {
		cfg.Command = serveCommand
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	return cfg
}

// serveCommand is the default [Config.Command].
func serveCommand(o Options) []string {
	argv := []string{"serve"}
	for _, address := range o.Listen {
		argv = append(argv, "--listen", address)
	}
	for _, address := range o.SSH {
		argv = append(argv, "--ssh", address)
	}
	if o.Config != "" {
		argv = append(argv, "--config", o.Config)
	}
	return argv
}

// bringUp makes the system such that an agent can run. Steps that fail are
// logged; cfg.Log is set on the way, as soon as there is a place to log to.
func bringUp(cfg *Config) Options {
	start := time.Now()
	failures := append(mountAll(fileSystems(cfg.Container, cfg.Tmp)), makeTmp("/tmp"))
	if cfg.Log == nil {
		cfg.Log = defaultLog(cfg.Container)
	}
	var options Options
	if cfg.Container {
		failures = append(failures, linkDevices()...)
		failures = append(failures, loopbackUp(), protectFromOOM())
	} else {
		var err error
		options, err = readCommandLine()
		failures = append(append(failures, err), bringUpMachine(cfg, options)...)
	}
	for _, err := range failures {
		if err != nil {
			cfg.Log.Warn("boot step failed", "error", err)
		}
	}
	if len(options.Unknown) > 0 {
		cfg.Log.Warn("unknown parameters", "parameters", options.Unknown)
	}
	cfg.Log.Info("system is up", "took", time.Since(start).Round(time.Microsecond))
	return options
}

// bringUpMachine is what only the owner of the kernel does. One thing after the
// other: loading modules alongside the rest was slower, as the processors of a
// young machine mostly wait for each other.
func bringUpMachine(cfg *Config, options Options) (failures []error) {
	names := cfg.Modules
	if names == nil {
		names = vsockModules()
	}
	failures = append(failures, loadModules(slices.Concat(names, options.Modules))...)
	failures = append(failures, setupCgroups()...)
	failures = append(failures, linkDevices()...)
	failures = append(failures, loopbackUp(), protectFromOOM(), raiseDescriptors(), setHostname(options.Hostname), keepCtrlAltDel())
	return failures
}

func readCommandLine() (Options, error) {
	line, err := os.ReadFile("/proc/cmdline")
	return ParseCommandLine(string(line)), err
}

// agentCommand is how the agent is started, the first time and every time.
func agentCommand(cfg Config, options Options) *agent {
	a := &agent{
		argv: append([]string{os.Args[0]}, cfg.Command(options)...),
		env:  mergeEnv([]string{"PATH=" + defaultPath}, os.Environ(), cfg.Env),
	}
	if !cfg.Container {
		a.cgroup = AgentCgroup
	}
	return a
}

// mergeEnv joins environments; of two entries with one name the later counts.
func mergeEnv(lists ...[]string) (env []string) {
	position := make(map[string]int)
	for _, entry := range slices.Concat(lists...) {
		name, _, _ := strings.Cut(entry, "=")
		if i, known := position[name]; known {
			env[i] = entry
			continue
		}
		position[name] = len(env)
		env = append(env, entry)
	}
	return env
}
