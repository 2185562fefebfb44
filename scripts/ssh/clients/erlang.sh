# Erlang's ssh application, which closes a channel twice when a signal has killed
# the command.
client=erlang
command -v escript >/dev/null && erl -noshell -eval 'halt(case code:lib_dir(ssh) of {error, _} -> 1; _ -> 0 end)' ||
	absent "no Erlang: apt-get install erlang-ssh"
version=$(erl -noshell -eval 'application:load(ssh), {ok, V} = application:get_key(ssh, vsn), io:format("ssh ~s", [V]), halt()')
mkdir -p "$dir/user"
cp "$IDENTITY" "$dir/user/id_ed25519"
sed "s/^[^ ]*/[127.0.0.1]:$door_port/" "$known_hosts" >"$dir/user/known_hosts"
succeeds "commands and files" env HOME="$dir" USER="$(id -un)" timeout 60 \
	escript "$root/scripts/ssh/erlang_client.escript" "$door_port" "$dir/user" "$far"
finish
