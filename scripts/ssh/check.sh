# Sourced by the scripts in clients/: what a check is, and what all of them
# stand on. scripts/test-ssh.sh sets
#
#   root         the checkout
#   dir          a directory of this client's own; $dir/far is used as the far side
#   SSH_CONFIG   an ssh_config with the one host "guest"; ssh, scp and sftp of
#                the PATH use it
#   IDENTITY     a private key that is let in
#   door_port    a port of 127.0.0.1 that leads to the server
#   known_hosts  the server's host key, for any name
#
# Far and near side are one machine, so that a check can look at both. Each
# client script ends with `finish`, which prints the one line of its summary.
# shellcheck shell=bash disable=SC2154

set -uo pipefail
mkdir -p "$dir/far" "$dir/near"
far=$dir/far near=$dir/near
checks=0 failures=0 skips=()

# problem records a failed check and says what it was about.
problem() {
	failures=$((failures + 1))
	printf '  FAIL %s: %s\n' "$client" "$1"
	[ $# -lt 2 ] || sed 's/^/       /' <<<"$2"
}

# succeeds WHAT COMMAND... checks that the command's status is 0.
succeeds() { status "$1" 0 "${@:2}"; }

# status WHAT STATUS COMMAND... checks a command's status: a number, or "fails"
# for any but 0.
status() {
	local what=$1 want=$2 got=0
	shift 2
	checks=$((checks + 1))
	# Into a file: what goes into the background would hold a pipe.
	"$@" >"$dir/output" 2>&1 </dev/null || got=$?
	if [ "$want" = fails ] && [ "$got" != 0 ]; then
		want=$got
	fi
	[ "$got" = "$want" ] || problem "$what: status $got, want $want" "$* :
$(tail -n 20 "$dir/output")"
}

# equal WHAT WANT GOT checks that two texts are one.
equal() {
	checks=$((checks + 1))
	[ "$2" = "$3" ] || problem "$1" "want: $2
got:  $3"
}

# like WHAT PATTERN GOT checks a text against an extended regular expression.
like() {
	checks=$((checks + 1))
	[[ $3 =~ $2 ]] || problem "$1" "want: something like $2
got:  $3"
}

# same_files WHAT A B checks that two files or trees are one, in content, names,
# kinds, modes and (to the second) times.
same_files() {
	checks=$((checks + 1))
	local differences
	differences=$(
		diff -r --no-dereference "$2" "$3" 2>&1
		diff <(listing "$2") <(listing "$3") 2>&1
	) || true
	[ -z "$differences" ] || problem "$1: $2 and $3 differ" "$(head -n 20 <<<"$differences")"
}
# The times of symbolic links are left out, as few tools carry them, and those of
# directories where directory_times is set and empty.
listing() {
	(cd "$1" 2>/dev/null || cd "$(dirname "$1")" || exit
		if [ -d "$1" ]; then set -- .; else set -- "$(basename "$1")"; fi
		find "$@" -type l -printf '%P %y %l\n' -o -type d -printf "%P %y %m${directory_times- %Ts}\\n" \
			-o -printf '%P %y %m %Ts\n' | sort)
}

# until_true SECONDS COMMAND... waits until the command succeeds.
until_true() {
	local limit=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$limit" ] || return 1
		sleep 0.05
	done
}

# free_port prints a port of 127.0.0.1 that nobody listens on, below those that
# the kernel hands out.
free_port() {
	local port
	while :; do
		port=$((10000 + RANDOM % 20000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

# a_file NAME BYTES makes a file of bytes that do not compress.
a_file() { head -c "$2" /dev/urandom >"$1"; }

# a_tree NAME makes a tree of what a copy can get wrong: modes, times, an empty
# file and directory, names with spaces and bytes that are no UTF-8, a link.
a_tree() {
	mkdir -p "$1/sub/deep" "$1/empty"
	a_file "$1/big" 3000000
	: >"$1/nothing"
	echo text >"$1/sub/with space"
	echo bytes >"$1/sub/"$'\xe4\xff'
	printf '#!/bin/sh\n' >"$1/sub/deep/script"
	chmod 751 "$1/sub/deep/script"
	chmod 640 "$1/big"
	chmod 700 "$1/empty"
	ln -s sub/deep "$1/link"
	touch -d '2001-02-03 04:05:06' "$1/big" "$1/sub/with space" "$1/sub/deep/script"
	touch -d '2002-02-03 04:05:06' "$1/sub/deep" "$1/empty"
}

# finish prints the client's one line; its status is 0 if all checks passed.
finish() {
	local skipped=""
	[ ${#skips[@]} = 0 ] || skipped=" (skipped: ${skips[*]})"
	if [ "$failures" = 0 ]; then
		printf 'ok    %-12s %3d checks, %2d s  %s%s\n' "$client" "$checks" "$SECONDS" "${version:-}" "$skipped"
		exit 0
	fi
	printf 'FAIL  %-12s %3d checks, %2d s  %d failed%s\n' "$client" "$checks" "$SECONDS" "$failures" "$skipped"
	exit 1
}

# absent ends a client that is not there or cannot work here: never in CI.
absent() {
	printf 'SKIP  %-12s %s\n' "$client" "$1"
	exit 77
}
