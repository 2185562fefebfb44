#!/usr/bin/env bash
# Run every fuzzer of the module for a short while: scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

count=0
while read -r package; do
	dir=.${package#"$(go list -m)"}
	mapfile -t fuzzers < <(grep -hoP '^func \KFuzz\w+' "$dir"/*_test.go | sort -u)
	for fuzzer in "${fuzzers[@]}"; do
		echo "--- $package $fuzzer ($time)"
		# To minimize an interesting input of hundreds of kilobytes would
		# take all of the time.
		go test -run '^$' -fuzz "^$fuzzer\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 2 "$package"
		count=$((count + 1))
	done
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)

if [ "$count" -eq 0 ]; then
	echo "no fuzzer was found" >&2
	exit 1
fi
echo "$count fuzzers ran"
