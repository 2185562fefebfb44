# curl, with whatever it is linked with: in Debian that is libssh2, which before
# 1.11 has only the older MACs. It reads known_hosts itself.
client=curl
protocols=$(curl -V 2>/dev/null) || absent "no curl"
case $protocols in
*sftp*) ;;
*) absent "this curl has no sftp" ;;
esac
version=$(grep -o 'libssh[^ ]*' <<<"$protocols" | head -n 1)

mkdir -p "$dir/home/.ssh"
sed "s/^[^ ]*/[127.0.0.1]:$door_port/" "$known_hosts" >"$dir/home/.ssh/known_hosts"
fetch() {
	HOME=$dir/home curl -sS --user "$(id -un):" --key "$IDENTITY" --pubkey "$IDENTITY.pub" "$@"
}
at=127.0.0.1:$door_port$far
a_file "$near/file" 5000000
for scheme in sftp scp; do
	succeeds "$scheme up" fetch -T "$near/file" "$scheme://$at/$scheme"
	equal "$scheme up, its bytes" "$(sha256sum <"$near/file")" "$(sha256sum <"$far/$scheme")"
	succeeds "$scheme down" fetch -o "$near/$scheme" "$scheme://$at/$scheme"
	equal "$scheme down, its bytes" "$(sha256sum <"$near/file")" "$(sha256sum <"$near/$scheme")"
	status "$scheme of what is missing" fails fetch "$scheme://$at/missing"
done
equal "a listing" "scp sftp" "$(fetch -l "sftp://$at/" | grep -v '^[.]' | sort | paste -sd ' ')"
equal "a part" "$(tail -c 100 "$near/file" | sha256sum)" "$(fetch -r -100 "sftp://$at/sftp" | sha256sum)"
succeeds "into a new directory" fetch --ftp-create-dirs -T "$near/file" "sftp://$at/new/dir/file"
succeeds "commands" fetch -l -Q "rename $far/sftp $far/renamed" -Q "chmod 600 $far/renamed" -Q "rm $far/scp" "sftp://$at/"
equal "what they did" "600 gone" "$(stat -c %a "$far/renamed") $([ -e "$far/scp" ] || echo gone)"
sed -i "s/ AAAA/ BBBB/" "$dir/home/.ssh/known_hosts"
status "another host key" fails fetch "sftp://$at/renamed"
finish
