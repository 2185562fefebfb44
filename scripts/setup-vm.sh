#!/bin/bash
# setup-vm.sh installs what `make e2e`, `make demo` and `make bench` need to
# boot a microVM on this machine, and changes nothing that is there already.
#
#   .vm/vmlinuz, .vm/modules/VERSION   Debian's cloud kernel, readable copies
#   .tools/bin/vhost-device-vsock      the vsock device, only without vhost-vsock
#
# Needs Debian or Ubuntu on x86-64, and root or sudo where something is missing.
set -euo pipefail

readonly VHOST_DEVICE_VSOCK_VERSION=0.3.0
readonly PACKAGES=(qemu-system-x86 busybox-static bash-static)

root=$(cd "$(dirname "$0")/.." && pwd)
readonly root
readonly vm_dir=$root/.vm
readonly tools_dir=$root/.tools

# shellcheck source=scripts/apt.sh
. "$root/scripts/apt.sh"

# kernel_version prints the newest kernel that is installed and fits.
kernel_version() {
	local image version
	for image in $(ls -v /boot/vmlinuz-*-cloud-amd64 /boot/vmlinuz-*-kvm 2>/dev/null); do
		version=${image#/boot/vmlinuz-}
		if [ -f "/lib/modules/$version/modules.dep" ]; then
			printf '%s\n' "$version"
		fi
	done | tail -n 1
}

# Ubuntu's counterpart of Debian's linux-image-cloud-amd64 is linux-image-kvm.
install_kernel() {
	[ -z "$(kernel_version)" ] || return 0
	local package=linux-image-cloud-amd64
	if [ "$(. /etc/os-release && echo "${ID:-}")" = ubuntu ]; then
		package=linux-image-kvm
	fi
	apt_install "$package"
	[ -n "$(kernel_version)" ] || die "$package is installed, but /boot has no kernel of it"
}

# copy_kernel puts kernel and modules where an ordinary user can read them and
# where the next upgrade of the package does not remove them.
copy_kernel() {
	local version
	version=$(kernel_version)
	if [ "$(cat "$vm_dir/version" 2>/dev/null)" = "$version" ]; then
		say "kernel $version: there already"
		return 0
	fi
	say "copying kernel $version to .vm"
	rm -rf "$vm_dir/modules" "$vm_dir/vmlinuz" "$vm_dir/version"
	mkdir -p "$vm_dir/modules"
	if [ -r "/boot/vmlinuz-$version" ]; then
		cp "/boot/vmlinuz-$version" "$vm_dir/vmlinuz"
	else
		as_root cat "/boot/vmlinuz-$version" >"$vm_dir/vmlinuz"
	fi
	cp -R "/lib/modules/$version" "$vm_dir/modules/"
	# Last, so that an interrupted copy is made again.
	printf '%s\n' "$version" >"$vm_dir/version"
}

# kernel_vsock says whether QEMU can use the kernel's own KVM and vsock. A
# nested /dev/kvm may open and still not run a kernel, so a hypervisor under us
# means no unless the user insists.
kernel_vsock() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && [ -r /dev/vhost-vsock ] && [ -w /dev/vhost-vsock ] || return 1
	[ "${GUESTD_VM_ACCEL:-}" = kvm ] || ! grep -qw hypervisor /proc/cpuinfo
}

install_vhost_device_vsock() {
	local binary=$tools_dir/bin/vhost-device-vsock
	if [ "$("$binary" --version 2>/dev/null | awk '{print $NF}')" = "$VHOST_DEVICE_VSOCK_VERSION" ]; then
		say "vhost-device-vsock $VHOST_DEVICE_VSOCK_VERSION: there already"
		return 0
	fi
	if ! command -v cargo >/dev/null; then
		apt_install cargo rustc gcc libc6-dev
		command -v cargo >/dev/null || die "cargo is missing: install Rust (https://rustup.rs), then run this again"
	fi
	command -v cc >/dev/null || apt_install gcc libc6-dev
	say "building vhost-device-vsock $VHOST_DEVICE_VSOCK_VERSION with $(cargo --version) (about a minute)"
	cargo install --quiet --locked --force --root "$tools_dir" \
		--version "$VHOST_DEVICE_VSOCK_VERSION" vhost-device-vsock ||
		die "cargo could not build vhost-device-vsock $VHOST_DEVICE_VSOCK_VERSION; if it complains about the version of rustc, install a newer Rust (https://rustup.rs)"
}

[ "$(uname -m)" = x86_64 ] || die "only x86-64 machines for now, this is $(uname -m)"
command -v apt-get >/dev/null ||
	die "no apt-get here; install QEMU, a static busybox and bash, and a Linux kernel with vsock by hand"

apt_install "${PACKAGES[@]}"
install_kernel
copy_kernel
if kernel_vsock; then
	say "chosen: KVM with /dev/vhost-vsock"
else
	install_vhost_device_vsock
	say "chosen: QEMU's own emulation (TCG) with vhost-device-vsock"
fi
say "ready"
