# Forwards of every kind, over OpenSSH's client. The servers at their far ends
# are upper.py, which answers in capitals once the client has ended its half: so a
# half-close must pass, both ways.
client=forward version="-L -R -D -W, unix sockets, agent"

serve_tcp() { # PORT
	python3 "$root/scripts/ssh/upper.py" tcp "$1" &
	servers+=($!)
	until_true 30 nc.openbsd -z 127.0.0.1 "$1" || problem "no server on $1"
}
serve_unix() { # PATH
	python3 "$root/scripts/ssh/upper.py" unix "$1" &
	servers+=($!)
	until_true 30 test -S "$1" || problem "no server on $1"
}
ask_tcp() { printf 'half-closed %s' "$2" | timeout 30 nc.openbsd -N 127.0.0.1 "$1"; }
ask_unix() { printf 'half-closed %s' "$2" | timeout 30 nc.openbsd -N -U "$1"; }
servers=()
# Quietly: what is ended here is ended on purpose.
trap 'kill "${servers[@]}" 2>/dev/null; ssh -S "$control" -O exit guest 2>/dev/null' EXIT

tcp=$(free_port) unix=$dir/up.sock control=$dir/control
serve_tcp "$tcp"
serve_unix "$unix"
succeeds "a connection for forwards alone" ssh -f -N -M -S "$control" guest
forward() { ssh -S "$control" -O forward "$@" guest; }

l=$(free_port)
succeeds "-L" forward -L "127.0.0.1:$l:127.0.0.1:$tcp"
equal "through -L" "HALF-CLOSED A" "$(ask_tcp "$l" a)"
for i in 1 2 3 4 5 6 7 8; do ask_tcp "$l" "many $i" >"$near/l.$i" & asked[i]=$!; done
wait "${asked[@]}"
equal "eight at once through -L" "$(for i in 1 2 3 4 5 6 7 8; do echo "HALF-CLOSED MANY $i"; done)" "$(for i in 1 2 3 4 5 6 7 8; do cat "$near/l.$i"; echo; done)"

r=$(free_port)
succeeds "-R" forward -R "127.0.0.1:$r:127.0.0.1:$tcp"
equal "through -R" "HALF-CLOSED B" "$(ask_tcp "$r" b)"
succeeds "-R is cancelled" ssh -S "$control" -O cancel -R "127.0.0.1:$r:127.0.0.1:$tcp" guest
# ssh asks for no answer to that, so nobody knows when it has been done.
refused() { ! nc.openbsd -z 127.0.0.1 "$r"; }
succeeds "and no longer listens" until_true 30 refused
allocated=$(forward -R "127.0.0.1:0:127.0.0.1:$tcp")
like "-R with port 0 names the port" '^[0-9]+$' "$allocated"
equal "through the port that was chosen" "HALF-CLOSED C" "$(ask_tcp "$allocated" c)"
status "-R to a port that is taken" 255 forward -R "127.0.0.1:$tcp:127.0.0.1:$tcp"

d=$(free_port)
succeeds "-D" forward -D "127.0.0.1:$d"
equal "through -D" "HALF-CLOSED D" "$(printf 'half-closed d' | timeout 30 nc.openbsd -N -X 5 -x "127.0.0.1:$d" 127.0.0.1 "$tcp")"
equal "ssh -W" "HALF-CLOSED W" "$(printf 'half-closed w' | timeout 30 ssh -W "127.0.0.1:$tcp" guest)"

succeeds "-L from a unix socket to one" forward -L "$dir/l.sock:$unix"
equal "through it" "HALF-CLOSED E" "$(ask_unix "$dir/l.sock" e)"
lu=$(free_port)
succeeds "-L to a unix socket" forward -L "127.0.0.1:$lu:$unix"
equal "through that" "HALF-CLOSED F" "$(ask_tcp "$lu" f)"
succeeds "-R of a unix socket" forward -R "$dir/r.sock:$unix"
equal "through -R" "HALF-CLOSED G" "$(ask_unix "$dir/r.sock" g)"
equal "its mode" 600 "$(stat -c %a "$dir/r.sock")"

a_file "$near/data" 10000000
sum=$(sha256sum <"$near/data")
bulk=$(free_port)
python3 "$root/scripts/ssh/upper.py" echo "$bulk" &
servers+=($!)
until_true 30 nc.openbsd -z 127.0.0.1 "$bulk"
bl=$(free_port)
succeeds "-L for bulk" forward -L "127.0.0.1:$bl:127.0.0.1:$bulk"
equal "10 MB there and back" "$sum" "$(timeout 60 nc.openbsd -N 127.0.0.1 "$bl" <"$near/data" | sha256sum)"

# A port where nobody listens: the connection is opened and closed, no hanging.
dead=$(free_port) dl=$(free_port)
succeeds "-L to nobody" forward -L "127.0.0.1:$dl:127.0.0.1:$dead"
equal "nobody answers" "" "$(ask_tcp "$dl" x 2>/dev/null)"
equal "and the others still do" "HALF-CLOSED H" "$(ask_tcp "$l" h)"

# The agent of this side, seen from the far one.
eval "$(ssh-agent -s)" >/dev/null
servers+=("$SSH_AGENT_PID")
ssh-keygen -q -t ed25519 -N '' -C "the agent's key" -f "$near/key"
ssh-add -q "$near/key" 2>/dev/null
like "agent forwarding" "the agent's key" "$(ssh -A guest ssh-add -l)"
equal "the agent's socket lies in a directory of the user's alone" 700 "$(ssh -A guest 'stat -c %a "$(dirname "$SSH_AUTH_SOCK")"')"
socket=$(ssh -A guest 'echo $SSH_AUTH_SOCK')
succeeds "and is gone with the session" until_true 10 test ! -e "$socket"
equal "no agent without -A" "" "$(ssh -a guest 'echo $SSH_AUTH_SOCK')"
finish
