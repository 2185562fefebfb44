# Sourced by the scripts that set this machine up: how they speak, get root's
# rights, and install Debian's packages.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }
die() {
	printf '%s: error: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 1
}

# as_root runs a command with root's rights.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root's rights are needed for: $* (no sudo here; run it as root, then this again)"
	fi
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt_install installs those of the named packages that are missing.
apt_updated=
apt_install() {
	local missing=() package
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	if [ -z "$apt_updated" ]; then
		as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are here"
		apt_updated=yes
	fi
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
		die "apt could not install ${missing[*]}"
}
