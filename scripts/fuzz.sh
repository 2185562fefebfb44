#!/usr/bin/env bash
# Run every fuzzer of the module for a short while: scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE FUZZER runs one fuzzer. At the end of the time Go sometimes takes
# the interruption of its own workers for a failure: it then says nothing but
# "context deadline exceeded", and has no failing input to show.
fuzz() {
	# To minimize an interesting input of hundreds of kilobytes would take all
	# of the time.
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 2 "$1" 2>&1 | tee "$log" && return
	grep -q '^    context deadline exceeded$' "$log" && ! grep -q 'Failing input\|panic' "$log"
}

count=0
while read -r package; do
	dir=.${package#"$(go list -m)"}
	mapfile -t fuzzers < <(grep -hoP '^func \KFuzz\w+' "$dir"/*_test.go | sort -u)
	for fuzzer in "${fuzzers[@]}"; do
		echo "--- $package $fuzzer ($time)"
		fuzz "$package" "$fuzzer"
		count=$((count + 1))
	done
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)

if [ "$count" -eq 0 ]; then
	echo "no fuzzer was found" >&2
	exit 1
fi
echo "$count fuzzers ran"
