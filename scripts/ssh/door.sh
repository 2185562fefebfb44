# Sourced by the scripts that bring stock SSH clients to a server: opens the
# server's door and says how to let keys in.
#
#   DOOR=guestd   bin/guestd, the default.
#   DOOR=stock    OpenSSH's own sshd behind the same socket: what fails there too
#                 is a fault of the test.
#
# The caller sets root (the checkout) and dir (a new directory of its own, with
# a short name: socket paths are short), calls open_door, and close_door at its
# end. After open_door:
#
#   SSHLAB_SOCKET     the server's socket
#   SSHLAB_GRANT      a command that lets in the public keys on its standard input
#   $dir/known_hosts  the server's host key, for any name
# shellcheck shell=bash disable=SC2154

door_pids=()

# wait_for FILE waits until FILE exists, or the server has died.
wait_for() {
	local pid=${door_pids[-1]} i
	for ((i = 0; i < 600; i++)); do
		[ ! -e "$1" ] || return 0
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	echo "the server did not start; its log:" >&2
	cat "$dir"/*.log >&2
	return 1
}

open_door() {
	local user
	user=$(id -un)
	export SSHLAB_SOCKET=$dir/ssh.sock SSHLAB_GRANT
	case ${DOOR:=guestd} in
	stock) open_stock ;;
	guestd)
		export GUESTD_AGENT=unix:$dir/agent.sock
		"$root/bin/guestd" serve --listen "$GUESTD_AGENT" --ssh "unix:$SSHLAB_SOCKET" 2>"$dir/guestd.log" &
		door_pids+=($!)
		SSHLAB_GRANT="'$root/scripts/ssh/grant.sh' '$root/bin/guestctl' '$user' '$dir/granted'"
		mkdir -p "$dir/granted"
		wait_for "$dir/agent.sock"
		;;
	*)
		echo "DOOR=$DOOR: neither guestd nor stock" >&2
		return 1
		;;
	esac
	wait_for "$SSHLAB_SOCKET"
	"$root/bin/sshlab" listen "$SSHLAB_SOCKET" "$dir/port" 2>"$dir/listen.log" &
	door_pids+=($!)
	wait_for "$dir/port"
	door_port=$(cat "$dir/port")
	{ ssh-keyscan -t ed25519 -p "$door_port" 127.0.0.1 2>/dev/null || true; } | sed 's/^[^ ]*/*/' >"$dir/known_hosts"
	[ -s "$dir/known_hosts" ] || {
		echo "the server shows no ed25519 host key; its log:" >&2
		cat "$dir"/*.log >&2
		return 1
	}
}

open_stock() {
	local sftp_server
	sftp_server=$(command -v /usr/lib/openssh/sftp-server /usr/libexec/sftp-server | head -n 1)
	ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
	: >"$dir/authorized_keys"
	# The algorithms are those that guestd offers.
	cat >"$dir/stock_config" <<-CONFIG
		HostKey $dir/host_key
		AuthorizedKeysFile $dir/authorized_keys
		StrictModes no
		PermitRootLogin yes
		UsePAM no
		PidFile none
		PrintMotd no
		Subsystem sftp $sftp_server
		AcceptEnv LANG LC_*
		SetEnv SHLVL=1
		AllowAgentForwarding yes
		StreamLocalBindUnlink yes
		MaxStartups 200
		MaxSessions 200
		KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
		Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr
		MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512
	CONFIG
	SSHLAB_GRANT="cat >>'$dir/authorized_keys'"
	"$root/bin/sshlab" stock "$SSHLAB_SOCKET" "$root/.tools/sshd/sshd" "$dir/stock_config" 2>"$dir/stock.log" &
	door_pids+=($!)
}

close_door() {
	local pid
	for pid in "${door_pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in "${door_pids[@]}"; do
		wait "$pid" 2>/dev/null || true
	done
	door_pids=()
}
