# OpenSSH's client: programs, their statuses and streams, terminals, and the
# many sessions of one connection.
client=ssh version=$(ssh -V 2>&1)

equal "a command's output" hello "$(ssh guest echo hello)"
for code in 0 1 2 42 126 127 255; do
	status "exit $code" "$code" ssh guest "exit $code"
done
# Death by a signal is an exit-signal, for which ssh's own status is 255.
for signal in TERM KILL SEGV; do
	status "killed by $signal" 255 ssh guest "kill -$signal \$\$"
done
status "a command that is missing" 127 ssh guest /no/such/command
equal "stdout alone" out "$(ssh guest 'echo out; echo err >&2' 2>/dev/null)"
equal "stderr alone" err "$(ssh guest 'echo out; echo err >&2' 2>&1 >/dev/null)"
equal "an argument with spaces goes through the shell" "a  b" "$(ssh guest "echo 'a  b'")"
equal "nul bytes and newlines" "$(printf 'a\0b\n\n' | od -c)" "$(ssh guest "printf 'a\\0b\\n\\n'" | od -c)"

a_file "$near/data" 20000000
sum=$(sha256sum <"$near/data")
equal "20 MB up" "$sum" "$(ssh guest sha256sum <"$near/data")"
equal "20 MB down" "$sum" "$(ssh guest cat "$near/data" | sha256sum)"
equal "20 MB both ways at once" "$sum" "$(ssh guest cat <"$near/data" | sha256sum)"
equal "20 MB of stderr" "$sum" "$( { ssh guest "cat $near/data >&2" 2>&1 >/dev/null; } | sha256sum)"
equal "compressed" "$sum" "$(ssh -C guest cat <"$near/data" | sha256sum)"
equal "with a new key each megabyte" "$sum" "$(ssh -o RekeyLimit=1M guest cat <"$near/data" | sha256sum)"

equal "the end of stdin arrives" 5 "$(printf 12345 | ssh guest 'wc -c' | tr -d ' ')"
equal "no stdin" 0 "$(ssh -n guest 'wc -c' | tr -d ' ')"
equal "a reader that goes away" y "$(ssh guest yes | head -n 1)"
equal "a program that does not read its input" done "$(ssh guest 'exec <&-; echo done' <"$near/data")"

# The output of what was left behind still comes: ssh stays until it is closed.
equal "a background holder's output" "first last" "$(ssh guest '(sleep 1; echo last) & echo first' | paste -sd ' ')"
succeeds "a detached program does not hold ssh" timeout 20 ssh -n guest 'setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $! >'"$far/detached"
succeeds "and outlives it" kill "$(cat "$far/detached")"

equal "the environment that is accepted" de_DE.UTF-8 "$(LC_TEST=de_DE.UTF-8 ssh -o SendEnv=LC_TEST guest 'echo $LC_TEST')"
equal "the environment that is not" "" "$(LD_PRELOAD_TEST=x ssh -o SendEnv=LD_PRELOAD_TEST guest 'echo $LD_PRELOAD_TEST')"
equal "USER, LOGNAME and HOME" "$(id -un) $(id -un) $HOME" "$(ssh guest 'echo $USER $LOGNAME $HOME')"
equal "the working directory" "$(cd && pwd)" "$(ssh guest pwd)"
like "SSH_CONNECTION has four fields" '^[^ ]+ [0-9]+ [^ ]+ [0-9]+$' "$(ssh guest 'echo $SSH_CONNECTION')"

like "ssh -t has a terminal" '^/dev/pts/[0-9]+' "$(ssh -tt guest tty </dev/null | tr -d '\r')"
equal "ssh -T has none" "not a tty" "$(ssh -T guest tty)"
equal "ssh -t passes on the status" 7 "$(ssh -tt guest 'exit 7' </dev/null >/dev/null 2>&1; echo $?)"
equal "SSH_TTY is the terminal" same "$(ssh -tt guest '[ "$SSH_TTY" = "$(tty)" ] && echo same' </dev/null | tr -d '\r')"
equal "TERM arrives" vt220 "$(TERM=vt220 ssh -tt guest 'echo $TERM' </dev/null | tr -d '\r')"
like "a shell is a login shell" '-[a-z]*sh' "$(ssh -T guest <<<'echo $0')"

# One connection, many sessions.
control=$dir/control
succeeds "ControlMaster" ssh -f -N -M -S "$control" guest
for i in 1 2 3 4 5 6 7 8 9 10; do
	ssh -S "$control" guest "echo $i; exit $i" >"$near/mux.$i" 2>/dev/null &
	pids[i]=$!
done
for i in 1 2 3 4 5 6 7 8 9 10; do
	wait "${pids[i]}"
	equal "the status of session $i" "$i" $?
	equal "the output of session $i" "$i" "$(cat "$near/mux.$i")"
done
succeeds "ControlMaster's exit" ssh -S "$control" -O exit guest
succeeds "ssh -N and nothing else" bash -c "timeout -s TERM 2 ssh -N guest; [ \$? = 124 ]"
succeeds "keepalives are answered" bash -c "ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=3 guest sleep 6"

# Nobody else gets in.
ssh-keygen -q -t ed25519 -N '' -f "$near/stranger"
sed "s|IdentityFile .*|IdentityFile $near/stranger|" "$SSH_CONFIG" >"$dir/stranger_config"
status "a key that was not let in" 255 ssh -F "$dir/stranger_config" guest true
status "no key at all" 255 ssh -o PubkeyAuthentication=no guest true
status "another user" 255 ssh -l nobody-of-this-name guest true
finish
