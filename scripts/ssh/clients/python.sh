# paramiko and asyncssh, the two SSH libraries of Python.
client=python
python=$root/.tools/ssh-venv/bin/python
[ -x "$python" ] || absent "no .tools/ssh-venv: run scripts/setup-ssh-clients.sh"
version=$("$python" -c 'import asyncssh, paramiko; print("paramiko", paramiko.__version__, "asyncssh", asyncssh.__version__)')
a_file "$near/data" 5000000
for library in paramiko asyncssh; do
	succeeds "$library" timeout 120 "$python" "$root/scripts/ssh/${library}_client.py" \
		"$door_port" "$IDENTITY" "$known_hosts" "$near/data" "$far/$library"
done
finish
