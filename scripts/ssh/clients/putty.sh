# PuTTY's command-line clients, over a port of the loopback.
client=putty
command -v plink >/dev/null || absent "no plink: apt-get install putty-tools"
version=$(plink -V | head -n 1)
puttygen "$IDENTITY" -O private -o "$dir/identity.ppk" || problem "the key cannot be converted"
export PUTTYDIR=$dir/putty
mkdir -p "$PUTTYDIR"
fingerprint=$(ssh-keygen -lf <(sed 's/^[^ ]* //' "$known_hosts") | cut -d ' ' -f 2)
options=(-batch -P "$door_port" -i "$dir/identity.ppk" -hostkey "$fingerprint" -noagent)
user=$(id -un)

equal "plink's output" hello "$(plink "${options[@]}" -l "$user" 127.0.0.1 echo hello </dev/null)"
status "plink's status" 42 plink "${options[@]}" -l "$user" 127.0.0.1 'exit 42'
a_file "$near/data" 5000000
touch -d '2003-03-04 05:06:07' "$near/data"
equal "5 MB both ways" "$(sha256sum <"$near/data")" "$(plink "${options[@]}" -l "$user" 127.0.0.1 cat <"$near/data" | sha256sum)"
like "a terminal" '/dev/pts/' "$(plink "${options[@]}" -t -l "$user" 127.0.0.1 tty </dev/null | tr -d '\r')"
for protocol in -sftp -scp; do
	succeeds "pscp $protocol up" pscp -q -p "$protocol" "${options[@]}" -l "$user" "$near/data" "127.0.0.1:$far/up$protocol"
	equal "what came" "$(sha256sum <"$near/data")" "$(sha256sum <"$far/up$protocol")"
	equal "its time" "$(stat -c %Y "$near/data")" "$(stat -c %Y "$far/up$protocol")"
	succeeds "pscp $protocol down" pscp -q -p "$protocol" "${options[@]}" -l "$user" "127.0.0.1:$far/up$protocol" "$near/down$protocol"
	equal "what came back" "$(sha256sum <"$near/data")" "$(sha256sum <"$near/down$protocol")"
done
psftp "${options[@]}" -l "$user" -b <(printf 'cd %s\nput %s psftp\nmkdir d\nmv psftp d/moved\nget d/moved %s\n' "$far" "$near/data" "$near/psftp") 127.0.0.1 >/dev/null 2>&1 </dev/null
equal "psftp's status" 0 $?
equal "psftp" "$(sha256sum <"$near/data")" "$(sha256sum <"$near/psftp")"
status "another host key" 1 plink -batch -P "$door_port" -i "$dir/identity.ppk" -hostkey SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA -l "$user" 127.0.0.1 true
finish
