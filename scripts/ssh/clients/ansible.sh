# Ansible, with each way that it has to move files.
client=ansible
ansible=$root/.tools/ssh-venv/bin/ansible
[ -x "$ansible" ] || absent "no .tools/ssh-venv: run scripts/setup-ssh-clients.sh"
version=$("$ansible" --version | sed -n 1p)
export ANSIBLE_HOST_KEY_CHECKING=True ANSIBLE_NOCOLOR=1 ANSIBLE_HOME=$dir/ansible ANSIBLE_CONFIG=$dir/ansible.cfg
export ANSIBLE_LOCAL_TEMP=$dir/ansible/tmp ANSIBLE_SSH_CONTROL_PATH_DIR=$dir/cp ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
export ANSIBLE_DEPRECATION_WARNINGS=False ANSIBLE_REMOTE_TEMP=$far/ansible
export LC_ALL=C.UTF-8
echo '[defaults]' >"$ANSIBLE_CONFIG"
a_file "$near/file" 3000000

play() { "$ansible" -i guest, guest --ssh-common-args "-F $SSH_CONFIG" "$@"; }
for method in sftp scp piped; do
	export ANSIBLE_SSH_TRANSFER_METHOD=$method
	like "ping ($method)" '"ping": "pong"' "$(play -m ping 2>&1 </dev/null)"
	succeeds "copy ($method)" play -m copy -a "src=$near/file dest=$far/$method mode=0640"
	equal "its content" "$(sha256sum <"$near/file")" "$(sha256sum <"$far/$method")"
	equal "its mode" 640 "$(stat -c %a "$far/$method")"
	like "shell ($method)" 'FAILED.*rc=3' "$(play -m shell -a 'echo out; exit 3' 2>&1 </dev/null | tr '\n' ' ')"
	succeeds "fetch ($method)" play -m fetch -a "src=$far/$method dest=$near/fetched.$method flat=yes"
	equal "what was fetched" "$(sha256sum <"$near/file")" "$(sha256sum <"$near/fetched.$method")"
done
succeeds "pipelining" env ANSIBLE_PIPELINING=True "$ansible" -i guest, guest --ssh-common-args "-F $SSH_CONFIG" -m ping
finish
