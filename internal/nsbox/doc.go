// Package nsbox runs guestd in namespaces of its own, for machines on which no
// microVM can be had: the demo's default, and a quick target for tests.
//
// The box has its own user, pid, mount, network, host name and IPC namespaces
// and a root of its own: the host's programs (/usr, /bin, /lib…) read-only, a
// small /etc, and tmpfs for everything that can be written. guestd is PID 1 in
// it. The host reaches it by a hybrid socket like Firecracker's, which this
// package serves. It works for root and, where user namespaces are allowed,
// for an ordinary user.
//
// It is not a security boundary like a VM. The box shares the host's kernel,
// with all of its system calls, sees the host's installed programs, and has no
// limits on memory, processes or CPU of its own. Run nothing in it that you
// would not run as the user who starts it.
//
// The namespaces are entered by the calling program starting itself again, so
// its main must begin with:
//
//	if nsbox.IsChild() {
//		fmt.Fprintln(os.Stderr, nsbox.ChildMain())
//		os.Exit(1)
//	}
package nsbox
