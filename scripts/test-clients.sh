#!/usr/bin/env bash
# Stock gRPC clients against a live agent: grpcurl by reflection, and Python's
# grpcio with code that it generates itself from proto/.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
grpcurl=$root/.tools/bin/grpcurl

dir=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
socket=$dir/agent.sock
"$root/bin/guestd" serve --listen "unix:$socket" 2>"$dir/log" &
pid=$!
for _ in $(seq 200); do
	[ -S "$socket" ] && break
	kill -0 "$pid" || { cat "$dir/log" >&2; exit 1; }
	sleep 0.05
done

expect() {
	local what=$1 want=$2 got
	got=$(cat)
	if ! grep -q -- "$want" <<<"$got"; then
		printf 'grpcurl %s: %q is missing in:\n%s\n' "$what" "$want" "$got" >&2
		exit 1
	fi
	echo "grpcurl $what: ok"
}
call() { "$grpcurl" -plaintext -unix "$@"; }

call "$socket" list | expect "list" 'guestd.v1.ProcessService'
call "$socket" describe guestd.v1.FileService.Write | expect "describe" 'stream .guestd.v1.WriteRequest'
call "$socket" guestd.v1.SystemService/GetInfo | expect "GetInfo" '"bootId"'
call "$socket" grpc.health.v1.Health/Check | expect "health" 'SERVING'
call -d '{"path":"/etc/hostname"}' "$socket" guestd.v1.FileService/Stat | expect "Stat" 'FILE_TYPE_REGULAR'
{ call -d '{"path":"/no/such"}' "$socket" guestd.v1.FileService/Stat 2>&1 || true; } | expect "error" 'ENOENT'
# aGVsbG8= is "hello".
call -d '{"start":{"spec":{"args":["cat"],"stdin":true}}}{"stdin":"aGVsbG8="}{"stdinEof":{}}' \
	"$socket" guestd.v1.ProcessService/Exec | expect "Exec" 'aGVsbG8='

venv=${GUESTD_CLIENT_VENV:-$root/.tools/venv}
if [ ! -x "$venv/bin/python" ]; then
	python3 -m venv "$venv" || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
fi
"$venv/bin/python" -c 'import grpc_tools, grpc_status' 2>/dev/null ||
	"$venv/bin/pip" install --quiet 'grpcio>=1.70' 'grpcio-tools>=1.70' 'grpcio-status>=1.70'
"$venv/bin/python" -m grpc_tools.protoc -I proto --python_out="$dir" --grpc_python_out="$dir" proto/guestd/v1/*.proto
PYTHONPATH=$dir "$venv/bin/python" docs/examples/client.py "unix:$socket"
