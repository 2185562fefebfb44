#!/bin/bash
# Stock SSH clients against a server: each script in scripts/ssh/clients brings
# one client and prints one line. scripts/ssh/door.sh says which server (DOOR).
#
#   scripts/test-ssh.sh [CLIENT...]      all of them, or these
#   CI=1                                 a client that is not there is a failure
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
readonly LIMIT=${SSH_CLIENT_LIMIT:-300} # seconds for one client

# shellcheck source=scripts/ssh/door.sh
. scripts/ssh/door.sh
dir=$(mktemp -d /tmp/clients.XXXXXX)
trap 'close_door; [ -n "${KEEP:-}" ] || rm -rf "$dir"' EXIT

open_door
IDENTITY=$dir/identity SSH_CONFIG=$dir/ssh_config known_hosts=$dir/known_hosts
ssh-keygen -q -t ed25519 -N '' -C identity -f "$IDENTITY"
sh -c "$SSHLAB_GRANT" <"$IDENTITY.pub"
cat >"$SSH_CONFIG" <<CONFIG
Host guest
	HostName guest
	User $(id -un)
	ProxyCommand $root/bin/sshlab connect $SSHLAB_SOCKET
	IdentityFile $IDENTITY
	IdentitiesOnly yes
	UserKnownHostsFile $known_hosts
	GlobalKnownHostsFile /dev/null
	StrictHostKeyChecking yes
	BatchMode yes
	LogLevel ERROR
	ConnectTimeout 30
CONFIG

# First in the PATH, so that whatever runs ssh reaches the guest.
mkdir "$dir/bin"
for program in ssh scp sftp; do
	printf '#!/bin/sh\nexec %s -F %s "$@"\n' "$(command -v $program)" "$SSH_CONFIG" >"$dir/bin/$program"
done
chmod +x "$dir"/bin/*

names=("$@")
if [ ${#names[@]} = 0 ]; then
	for file in scripts/ssh/clients/*.sh; do
		names+=("$(basename "$file" .sh)")
	done
fi
failed=() skipped=()
for name in "${names[@]}"; do
	status=0
	mkdir "$dir/$name"
	(
		export SSH_CONFIG IDENTITY known_hosts door_port DOOR SSHLAB_GRANT
		export root PATH=$dir/bin:$PATH dir=$dir/$name
		unset SSH_AUTH_SOCK
		exec timeout -k 5 "$LIMIT" bash -c '. "$root/scripts/ssh/check.sh"; . "$0"' "$root/scripts/ssh/clients/$name.sh"
	) </dev/null || status=$?
	case $status in
	0) ;;
	77)
		skipped+=("$name")
		[ -z "${CI:-}" ] || failed+=("$name (not there)")
		;;
	124 | 137)
		printf 'FAIL  %-12s no end within %d s\n' "$name" "$LIMIT"
		failed+=("$name")
		;;
	*) failed+=("$name") ;;
	esac
done
printf '%d clients, %d failed, %d skipped, in %d s (%s)\n' \
	"${#names[@]}" "${#failed[@]}" "${#skipped[@]}" "$SECONDS" "$DOOR"
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[*]}"
	exit 1
fi
