#!/usr/bin/env bash
# What a process prints arrives whole, be it 10 GB or read by somebody who stops
# for a minute, and the agent holds little of it meanwhile:
# scripts/check-output.sh bin/guestd bin/guestctl
set -euo pipefail
# shellcheck source=scripts/agent.sh
. "$(dirname "$0")/agent.sh"
guestd=$1 guestctl=$2
max_kb=$((64 * 1000)) # of the agent's resident memory, at any time

dir=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
export GUESTD_AGENT=unix:$dir/agent.sock
start_agent "$guestd" "$dir"

# text BYTES prints that many, of which no two blocks of 4 KiB are alike for long.
text() { echo "seq 1000000000 | head -c $1"; }

# The reader takes a little, stops for a minute, and takes the rest.
stops() {
	head -c 1000000
	sleep 60
	cat
}
("$guestctl" exec -- sh -c "$(text 300000000)" | stops | cmp - <(sh -c "$(text 300000000)")) &
stopped=$!

echo "10 GB of output, beside a reader that stops for a minute"
# seq alone would take two minutes: a pattern is enough for so much.
"$guestctl" exec -- sh -c 'yes 0123456789abcde | head -c 10000000000' |
	cmp - <(yes 0123456789abcde | head -c 10000000000)
wait "$stopped"

echo "10 GB of output that nobody reads"
id=$("$guestctl" run -- head -c 10000000000 /dev/zero)
"$guestctl" wait "$id"
kept=$("$guestctl" logs "$id" 2>"$dir/lost" | wc -c)
[ "$kept" -ge $((1 << 20)) ] || { echo "$kept bytes are left of it" >&2; exit 1; }
grep -q "$((10000000000 - kept)) bytes of stdout lost" "$dir/lost" || { cat "$dir/lost" >&2; exit 1; }

peak=$(awk '$1 == "VmHWM:" {print $2}' "/proc/$pid/status")
echo "the agent: $peak kB resident at its peak, of at most $max_kb"
[ "$peak" -le "$max_kb" ] || { echo "the agent held too much" >&2; exit 1; }
