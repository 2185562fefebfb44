#!/bin/bash
# OpenSSH's own regress scripts, with stock clients, against a server:
# scripts/ssh/door.sh says which (DOOR).
#
#   scripts/openssh-regress.sh [SCRIPT...]    all of docs/ssh-regress.md, or these
#
# docs/ssh-regress.md names every script and says of each whether it runs. A
# script that runs and fails fails the run, and so does one that the table does
# not name. OpenSSH's `sshd` is bin/sshlab, which passes connections on.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
regress=$root/.tools/openssh/regress
table=$root/docs/ssh-regress.md
readonly LIMIT=${SSH_REGRESS_LIMIT:-180} # seconds for one script
readonly JOBS=${SSH_REGRESS_JOBS:-3}

[ -d "$regress" ] || {
	echo "no regress scripts: run scripts/setup-ssh-clients.sh" >&2
	exit 1
}
# shellcheck source=scripts/ssh/door.sh
. scripts/ssh/door.sh
dir=$(mktemp -d /tmp/regress.XXXXXX)
trap 'close_door; [ -n "${KEEP:-}" ] || rm -rf "$dir"' EXIT

# verdict NAME COLUMN prints what the table says of a script.
verdict() {
	awk -F ' *[|] *' -v name="\`$1\`" -v column="$2" '$2 == name {print $column; exit}' "$table"
}

# body prints a script, or the part of it that applies: the paragraphs before
# the first that has the words which the table names. The environment variable
# that they pass is called LC_XXX_TEST: LC_* is accepted by every server.
body() {
	local words=""
	if [ "$(verdict "$1" 3)" = part ]; then
		words=$(verdict "$1" 4 | cut -d '`' -f 2)
	fi
	awk -v words="$words" 'BEGIN {RS = ""; ORS = "\n\n"}
		words != "" && index($0, words) {exit}
		{print}' "$regress/$1.sh" | sed 's/_XXX_TEST/LC_XXX_TEST/g'
}

# The tests want to find the helpers of OpenSSH's build tree here.
prepare() {
	mkdir -p "$1"
	cp "$dir"/keys/* "$1/"
	ln -s "$(command -v nc.openbsd)" "$1/netcat"
	printf '#!/bin/sh\nexec mktemp -d -p "%s" "$@"\n' "$1" >"$1/mkdtemp"
	printf '#!/bin/sh\nexec "%s/bin/sshlab" modpipe "$@"\n' "$root" >"$1/modpipe"
	# Sessions do not inherit the environment, and some tests call ssh in one.
	printf '#!/bin/sh\nSSHLAB_KNOWN_HOSTS=%s exec "%s/scripts/ssh/regress-ssh.sh" "$@"\n' \
		"$dir/known_hosts" "$root" >"$1/ssh"
	printf '#!/bin/sh\nSSHLAB_SOCKET=%s SSHLAB_GRANT="%s" GUESTD_AGENT=%s exec "%s/bin/sshlab" sshd "$@"\n' \
		"$SSHLAB_SOCKET" "$SSHLAB_GRANT" "${GUESTD_AGENT:-}" "$root" >"$1/sshd"
	chmod +x "$1"/{mkdtemp,modpipe,ssh,sshd}
	: >"$1/config.h"
	# The tests find their helpers beside themselves.
	mkdir "$1/regress"
	ln -s "$regress"/* "$1/regress/"
	rm "$1/regress/$2.sh"
	body "$2" >"$1/regress/$2.sh"
}

# run_one NAME INDEX runs a script in a directory and on ports of its own, and
# leaves its result in $dir/NAME.result.
run_one() {
	local name=$1 obj=$dir/$1 port=$((first_port + $2)) start=$SECONDS status=0
	prepare "$obj" "$name"
	(
		export TEST_SHELL=/bin/sh TEST_SSH_PORT=$port BUILDDIR=$obj TEST_SSH_UNSAFE_PERMISSIONS=1
		export TEST_SSH_SSH=$obj/ssh TEST_SSH_SSHD=$obj/sshd TEST_SSH_SFTPSERVER=$sftp_server
		cd "$obj"
		lock=()
		# These use one set of ports, whatever they are told.
		! grep -Eq 'base=33|P=33' "$regress/$name.sh" || lock=(flock "$dir/ports")
		exec "${lock[@]}" timeout -k 5 "$LIMIT" \
			/bin/sh "$obj/regress/test-exec.sh" "$obj" "$obj/regress/$name.sh"
	) >"$obj/out" 2>&1 </dev/null || status=$?
	if [ -s "$obj/pidfile" ]; then
		kill "$(cat "$obj/pidfile")" 2>/dev/null || true
	fi
	if [ "$status" = 124 ] || [ "$status" = 137 ]; then
		echo "no end within $LIMIT s" >>"$obj/out"
	fi
	if [ "$status" = 0 ] && grep -q '^SKIPPED\|^skipped' "$obj/out"; then
		status=$(grep -m 1 '^SKIPPED\|^skipped' "$obj/out")
	fi
	printf '%s\t%s\n' "$status" "$((SECONDS - start))" >"$dir/$name.result"
}

# report prints the one line of a script, and the end of its output if it
# failed: in one write, since others report at the same time.
report() {
	local name=$1 status seconds text
	IFS=$'\t' read -r status seconds <"$dir/$name.result"
	if [ "$status" = 0 ]; then
		printf -v text 'ok    %-22s %3d s' "$name" "$seconds"
	else
		printf -v text 'FAIL  %-22s %3d s  %s\n%s' "$name" "$seconds" "$status" \
			"$(tail -n 25 "$dir/$name/out" | sed 's/^/      /')"
	fi
	printf '%s\n' "$text"
}

# Below the ports that the kernel hands out; each script gets thirty.
first_port=$((10000 + RANDOM % 18000))
passed=0 skipped=0 failed=() names=() chosen=("$@")
if [ ${#chosen[@]} = 0 ]; then
	# What OpenSSH's own Makefile runs against its server.
	read -r -d '' -a chosen < <(sed -n '/^LTESTS=/,/^$/p; /^INTEROP_TESTS=/,/^$/p' "$regress/Makefile" |
		sed '/^#/d; s/^[A-Z_]*=//; s/\\$//') || true
fi
for name in "${chosen[@]}"; do
	case $#$(verdict "$name" 3) in
	[1-9]* | 0runs | 0part) names+=("$name") ;;
	0n/a)
		printf 'n/a   %-22s %s\n' "$name" "$(verdict "$name" 4)"
		skipped=$((skipped + 1))
		;;
	*)
		printf 'FAIL  %-22s docs/ssh-regress.md does not name it\n' "$name"
		failed+=("$name")
		;;
	esac
done

# The longest first, so that none of them is what everybody waits for at the end.
read -r -d '' -a names < <(printf '%s\n' "${names[@]}" |
	awk '{print /^(multiplex|rekey|exit-status)$/ ? 0 : 1, NR, $0}' | sort -n -k 1,1 -k 2,2 | cut -d ' ' -f 3) || true

open_door
mkdir "$dir/keys"
for type in ssh-ed25519:ed25519 ecdsa-sha2-nistp256:ecdsa ssh-rsa:rsa; do
	ssh-keygen -q -t "${type#*:}" -N '' -f "$dir/keys/${type%:*}"
done
cat "$dir"/keys/*.pub | sh -c "$SSHLAB_GRANT"
case $DOOR in
stock) sftp_server=/usr/lib/openssh/sftp-server ;;
*)
	sftp_server=$dir/sftp-server
	printf '#!/bin/sh\nexec "%s/bin/guestd" sftp-server "$@"\n' "$root" >"$sftp_server"
	chmod +x "$sftp_server"
	;;
esac

running=() index=0
for name in "${names[@]}"; do
	if [ ${#running[@]} -ge "$JOBS" ]; then
		wait -n -p ended "${running[@]}" || true
		for i in "${!running[@]}"; do
			[ "${running[i]}" != "$ended" ] || unset "running[i]"
		done
	fi
	{
		run_one "$name" "$index"
		report "$name"
	} &
	running+=($!)
	index=$((index + 30))
done
wait "${running[@]}" || true
for name in "${names[@]}"; do
	if [ "$(cut -f 1 "$dir/$name.result")" = 0 ]; then
		passed=$((passed + 1))
	else
		failed+=("$name")
	fi
done
printf '%d passed, %d failed, %d do not apply, in %d s (%s)\n' \
	"$passed" "${#failed[@]}" "$skipped" "$SECONDS" "$DOOR"
if [ ${#failed[@]} -gt 0 ]; then
	echo "failed: ${failed[*]}"
	exit 1
fi
