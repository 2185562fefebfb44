# What VS Code's Remote-SSH does, as its documentation, its settings and the log
# that it shows its users tell:
#
#  1. It runs `ssh -v -T -D PORT [-o ConnectTimeout=N] HOST bash` (or sh, by the
#     setting useLocalServer), with a script on standard input.
#  2. The script prints a marker, finds out the platform and HOME, unpacks the
#     server below ~/.vscode-server if it is not there, starts it detached so
#     that it outlives the connection, waits until its log names the port it
#     listens on, and prints variables between two lines with the marker and ==.
#  3. The editor then connects through the SOCKS port of -D to that port on the
#     far 127.0.0.1: direct-tcpip. With the setting remoteServerListenOnSocket it
#     is a unix socket and direct-streamlocal@openssh.com instead.
#  4. The ssh session stays open; when the editor comes back, a second one finds
#     the server by its pid file and does not start it again.
client=vscode version="Remote-SSH's sequence"

python=$(command -v python3)
script() { cat <<-SCRIPT
	echo "4f1a: running"
	unset DISPLAY
	uname -s
	cd $far || exit 1
	if ! { [ -f pid ] && kill -0 "\$(cat pid)" 2>/dev/null; }; then
		setsid $python $root/scripts/ssh/upper.py tcp $remote >log 2>&1 </dev/null &
		echo \$! >pid
		echo started=1
	fi
	for i in \$(seq 200); do
		(exec 3<>/dev/tcp/127.0.0.1/$remote) 2>/dev/null && break
		sleep 0.1
	done
	echo "4f1a: start"
	echo "listeningOn==$remote=="
	echo "osReleaseId==\$(. /etc/os-release; echo \$ID)=="
	echo "arch==\$(uname -m)=="
	echo "tmpDir==\${XDG_RUNTIME_DIR:-/tmp}=="
	echo "platform==linux=="
	echo "4f1a: end"
	while read -r line; do [ "\$line" != quit ] || exit 0; done
SCRIPT
}
trap '[ ! -f "$far/pid" ] || kill "$(cat "$far/pid")" 2>/dev/null || true' EXIT

# session opens the editor's connection: its script and later lines go to fd 4.
session() { # OUTPUT
	mkfifo "$dir/in.$1"
	# The editor reads what ssh prints, line by line.
	ssh -v -T -D "127.0.0.1:$local" -o ConnectTimeout=15 guest bash <"$dir/in.$1" >"$dir/out.$1" 2>"$dir/err.$1" &
	ssh_pid=$!
	exec 4>"$dir/in.$1"
	script >&4
	checks=$((checks + 1))
	until_true 60 grep -q '4f1a: end' "$dir/out.$1" || problem "the script's end" "$(cat "$dir/out.$1")
$(grep -v debug "$dir/err.$1")"
}
leave() {
	echo quit >&4
	exec 4>&-
	wait "$ssh_pid"
	equal "the status of the session" 0 $?
}
ask() { printf 'hello' | timeout 30 nc.openbsd -N -X 5 -x "127.0.0.1:$local" 127.0.0.1 "$remote"; }

local=$(free_port) remote=$(free_port)
session 1
out=$(cat "$dir/out.1")
equal "nothing before the marker" "4f1a: running" "$(head -n 1 <<<"$out")"
like "the platform" '^Linux$' "$(sed -n 2p <<<"$out")"
like "the server was started" 'started=1' "$out"
like "the port" "listeningOn==$remote==" "$out"
for i in 1 2 3 4 5; do ask >"$dir/ask.$i" & asking[i]=$!; done
wait "${asking[@]}"
equal "five channels through SOCKS" HELLOHELLOHELLOHELLOHELLO "$(cat "$dir"/ask.*)"
leave
pid=$(cat "$far/pid")
succeeds "the server outlives the session" kill -0 "$pid"

local=$(free_port)
session 2
checks=$((checks + 1))
! grep -q started=1 "$dir/out.2" || problem "the second session started it again"
equal "and reaches it" HELLO "$(ask)"
leave
finish
