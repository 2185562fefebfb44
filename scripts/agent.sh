# Sourced by the scripts that measure an agent: starts one of its own.
# shellcheck shell=bash

# start_agent GUESTD DIR serves gRPC on unix:DIR/agent.sock and returns when it
# does. Its process is $pid, which the caller ends.
start_agent() {
	"$1" serve --listen "unix:$2/agent.sock" 2>"$2/log" &
	pid=$!
	for _ in $(seq 200); do
		[ -S "$2/agent.sock" ] && return
		kill -0 "$pid" || break
		sleep 0.05
	done
	cat "$2/log" >&2
	return 1
}
