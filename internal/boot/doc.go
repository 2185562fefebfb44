// Package boot is guestd as PID 1 of a guest: what an init has to do so that
// an agent can live, and nothing else.
//
// [Run] mounts what is missing (proc, sys, dev, devpts, shm, run, cgroup2),
// makes /tmp where there is none or cannot be written to, loads the vsock
// modules, brings lo up, sets the hostname, then starts the agent, which is the
// same binary again, as a child in a session and a cgroup of its own. From there
// on PID 1 only reaps, forwards signals, restarts the agent when it dies, and ends
// the machine when asked.
//
// Two processes are needed because os/exec and a reaper cannot share one: a
// wait4(-1) next to os/exec steals exit statuses (519 of 4,000 in our
// measurement), and without a reaper orphans stay zombies for ever. It also
// keeps a panic of the agent from being a panic of the kernel.
//
// # Signals to PID 1
//
//	SIGRTMIN+4, SIGUSR2, SIGPWR   power off    (systemd, busybox, lxc)
//	SIGRTMIN+5, SIGTERM, SIGINT   reboot       (systemd, busybox, Ctrl-Alt-Del)
//	SIGRTMIN+3, SIGUSR1           halt         (systemd, busybox)
//	SIGHUP, SIGQUIT, SIGWINCH     forwarded to the agent
//	others                        ignored
//
// SIGRTMIN is glibc's 34. Inside a container (see [Config.Container]) SIGTERM
// and SIGINT mean power off, as `docker stop` and Ctrl-C do there. The agent
// asks by [Request], which systemd as PID 1 understands as well.
//
// # Kernel command line
//
// See [Options].
package boot
