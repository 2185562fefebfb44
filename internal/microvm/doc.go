// Package microvm boots a throw-away Linux microVM under QEMU with guestd as
// its /init, for the end-to-end tests, the demo and the benchmarks.
//
// The root file system is an initramfs made on the spot: guestd, a static
// busybox with its applets, a bash, a handful of users, and the kernel modules
// that are asked for. Nothing of it outlives the VM.
//
// Two ways of running exist, and [Choose] picks by looking at the machine:
//
//   - KVM with the kernel's vhost-vsock, on ordinary hardware;
//   - QEMU's emulation (TCG) with vhost-device-vsock, which runs anywhere and
//     gives a hybrid socket like Firecracker's, half-close missing and all.
//
// `make setup-vm` installs what is needed; [Available] says what is missing.
package microvm
