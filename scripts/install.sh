#!/bin/sh
# Install guestctl with its manual and completions: install.sh PREFIX [DESTDIR].
# DESTDIR is put before everything, for packages that are built elsewhere.
set -eu

case "${1-}" in
'' | -*)
	echo "usage: scripts/install.sh PREFIX [DESTDIR]" >&2
	exit 2
	;;
esac
root="${2-}$1"
from="$(cd "$(dirname "$0")/.." && pwd)/bin/guestctl"
if [ ! -x "$from" ]; then
	echo "install.sh: there is no bin/guestctl: run 'make guestctl' first" >&2
	exit 1
fi

temp="$(mktemp -d)"
trap 'rm -rf "$temp"' EXIT
mkdir "$temp/man"
"$from" gen-man "$temp/man"
"$from" completion bash >"$temp/guestctl"
"$from" completion zsh >"$temp/_guestctl"
"$from" completion fish >"$temp/guestctl.fish"

install -d "$root/bin" "$root/share/man/man1" "$root/share/bash-completion/completions" \
	"$root/share/zsh/site-functions" "$root/share/fish/vendor_completions.d"
# A running guestctl keeps its file: the new one takes the name.
install -m 0755 "$from" "$root/bin/.guestctl.new"
mv -f "$root/bin/.guestctl.new" "$root/bin/guestctl"
install -m 0644 "$temp"/man/*.1 "$root/share/man/man1/"
install -m 0644 "$temp/guestctl" "$root/share/bash-completion/completions/guestctl"
install -m 0644 "$temp/_guestctl" "$root/share/zsh/site-functions/_guestctl"
install -m 0644 "$temp/guestctl.fish" "$root/share/fish/vendor_completions.d/guestctl.fish"
echo "installed guestctl in $root"
