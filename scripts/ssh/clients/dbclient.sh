# dropbear's client, over a port of the loopback: it has no ProxyCommand.
client=dbclient
command -v dbclient >/dev/null || absent "no dbclient: apt-get install dropbear-bin"
version=$(dbclient -V 2>&1 | head -n 1)
dropbearconvert openssh dropbear "$IDENTITY" "$dir/identity" >/dev/null 2>&1 || problem "the key cannot be converted"
export HOME=$dir
mkdir -p "$HOME/.ssh"
sed "s/^[^ ]*/[127.0.0.1]:$door_port/; " "$known_hosts" >"$HOME/.ssh/known_hosts"
sed "s/^[^ ]*/127.0.0.1/" "$known_hosts" >>"$HOME/.ssh/known_hosts"
db() { dbclient -p "$door_port" -i "$dir/identity" -l "$(id -un)" "$@"; }

# Dropbear has no encrypt-then-MAC, which is all that most are offered.
equal "a command's output" hello "$(db 127.0.0.1 echo hello </dev/null 2>/dev/null)"
status "its status" 42 db 127.0.0.1 'exit 42'
a_file "$near/data" 5000000
equal "5 MB both ways" "$(sha256sum <"$near/data")" "$(db 127.0.0.1 cat <"$near/data" 2>/dev/null | sha256sum)"
# It wants a terminal of its own to give one to the guest.
like "a terminal" '/dev/pts/' "$(script -qc "dbclient -p $door_port -i $dir/identity -l $(id -un) -t 127.0.0.1 tty" /dev/null </dev/null 2>/dev/null | tr -d '\r')"
# Its status is 0 when the server disconnects, so only the output tells.
equal "a stranger" "" "$(dbclient -p "$door_port" -l "$(id -un)" 127.0.0.1 echo in </dev/null 2>/dev/null)"
finish
