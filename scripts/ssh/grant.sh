#!/bin/bash
# grant.sh GUESTCTL USER DIR: grants guestd's door to the public keys on
# standard input, for any number of connections. DIR remembers which have been
# granted, so that a key costs one call. Lines are those of an authorized_keys
# file; options in front of a key are not understood, and such a line fails.
#
# SHLVL keeps bash from reading the ~/.bashrc of whoever runs this, as it does
# below ssh: one that takes a lock makes sessions wait for each other.
set -euo pipefail
guestctl=$1 user=$2 dir=$3
while read -r type key _; do
	case $type in
	'' | '#'*) continue ;;
	# Nobody accepts DSA any more: neither x/crypto/ssh nor sshd as it comes.
	ssh-dss) continue ;;
	esac
	mark=$dir/$(printf '%s' "$key" | sha256sum | cut -c 1-32)
	[ ! -e "$mark" ] || continue
	printf '%s %s\n' "$type" "$key" |
		"$guestctl" grant --key - --user "$user" --connections unlimited --ttl 2h --env SHLVL=1 >/dev/null
	: >"$mark"
done
