#!/bin/bash
# setup-ssh-clients.sh installs what `make ssh-clients` and `make ssh-regress`
# need on this machine, and changes nothing that is there already.
#
#   apt                     the stock clients, and the libraries of sshd
#   .tools/ssh-venv         paramiko, asyncssh, ansible-core, ssh-audit
#   .tools/sshd/sshd        Debian's sshd, unpacked and not installed: nothing
#                           of it is ever started as a service
#   .tools/openssh/regress  OpenSSH's own tests, from Debian's source package
#
# Needs Debian 12 or a relative of it, and root or sudo where something is
# missing. Package sources are the machine's own.
set -euo pipefail

readonly PACKAGES=(
	openssh-client openssh-sftp-server rsync sshfs git tmux vim-tiny
	dropbear-bin putty-tools curl erlang-ssh python3-venv netcat-openbsd procps
	# What Debian's sshd is linked with.
	libwrap0 libaudit1 libpam0g libselinux1 libsystemd0 libgssapi-krb5-2 libcrypt1
)
readonly PYTHON_PACKAGES=(
	'paramiko==3.5.1' 'asyncssh==2.21.0' 'ansible-core==2.17.12' 'ssh-audit==3.3.0'
)

root=$(cd "$(dirname "$0")/.." && pwd)
readonly root
readonly tools_dir=$root/.tools

# shellcheck source=scripts/apt.sh
. "$root/scripts/apt.sh"

# step runs a function and says how long it took.
step() {
	local start=$SECONDS
	"$@"
	say "$1: $((SECONDS - start)) s"
}

apt_packages() { apt_install "${PACKAGES[@]}"; }

# The stock server that guestd is compared with. Run by root, it wants a user
# for its unprivileged half.
stock_sshd() {
	getent passwd sshd >/dev/null ||
		as_root useradd --system --no-create-home --home-dir /run/sshd --shell /usr/sbin/nologin sshd
	local dir=$tools_dir/sshd deb
	[ ! -x "$dir/sshd" ] || return 0
	rm -rf "$dir"
	mkdir -p "$dir"
	(cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root openssh-server) || die "apt could not fetch openssh-server"
	deb=("$dir"/*.deb)
	dpkg-deb --fsys-tarfile "${deb[0]}" | tar -xO ./usr/sbin/sshd >"$dir/sshd.part"
	rm -f "${deb[@]}"
	chmod 755 "$dir/sshd.part"
	if ldd "$dir/sshd.part" | grep 'not found'; then
		die "sshd misses libraries"
	fi
	mv "$dir/sshd.part" "$dir/sshd"
}

python_clients() {
	local venv=$tools_dir/ssh-venv stamp
	stamp="${PYTHON_PACKAGES[*]}"
	[ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ] || return 0
	rm -rf "$venv"
	python3 -m venv "$venv" || die "python3 -m venv failed"
	"$venv/bin/pip" install --quiet "${PYTHON_PACKAGES[@]}" || die "pip could not install ${PYTHON_PACKAGES[*]}"
	printf '%s\n' "$stamp" >"$venv/.stamp"
}

# source_lists makes a deb-src twin of the machine's own Debian sources in $1.
source_lists() {
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		sed 's/^Types:.*/Types: deb-src/' "$file" >"$1/$(basename "$file")"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		sed -n 's/^deb /deb-src /p' "$file" >"$1/$(basename "$file" .list).list"
	done
}

regress_scripts() {
	local dir=$tools_dir/openssh work tarball
	[ ! -f "$dir/version" ] || return 0
	rm -rf "$dir"
	mkdir -p "$dir"
	work=$(mktemp -d)
	mkdir -p "$work/parts" "$work/lists/partial"
	source_lists "$work/parts"
	local apt=(apt-get -qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/parts"
		-o "Dir::State::lists=$work/lists" -o "Dir::Cache::srcpkgcache=" -o "Dir::Cache::pkgcache="
		-o "APT::Sandbox::User=root")
	"${apt[@]}" update || die "apt has no source lists"
	(cd "$work" && "${apt[@]}" source --download-only openssh) || die "apt could not fetch the source of openssh"
	tarball=("$work"/openssh_*.orig.tar.gz)
	tar -xzf "${tarball[0]}" -C "$dir" --strip-components=1 --wildcards '*/regress/*' '*/version.h'
	sed -n 's/.*SSH_VERSION.*"\(.*\)"/\1/p' "$dir/version.h" >"$dir/version.part"
	rm -rf "$work"
	say "regress scripts of $(cat "$dir/version.part")"
	mv "$dir/version.part" "$dir/version"
}

command -v apt-get >/dev/null || die "no apt-get here: only Debian and its relatives"
mkdir -p "$tools_dir"
step apt_packages
step stock_sshd
step python_clients
step regress_scripts
say "ready in $SECONDS s"
