#!/bin/sh
# ssh, as OpenSSH's own tests call it: SSHLAB_KNOWN_HOSTS pins the host key of
# the server under test, which is another one than the tests expect, and -Q
# names only the algorithms that the server has, so that the tests which try
# each of them try those.
query=
case "$1 $2" in
-Q*) query="$1 $2" ;;
-E*" -Q") query="$2 $3" ;;
esac
case "$query" in
"-Q kex") exec printf '%s\n' curve25519-sha256 ;;
"-Q cipher") exec printf '%s\n' aes128-ctr aes192-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com ;;
"-Q cipher-auth") exec printf '%s\n' aes128-gcm@openssh.com aes256-gcm@openssh.com ;;
"-Q mac") exec printf '%s\n' hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com ;;
"-Q key-plain") exec printf '%s\n' ssh-ed25519 ecdsa-sha2-nistp256 ssh-rsa ;;
"-Q "*) exec /usr/bin/ssh "$@" ;;
esac
exec /usr/bin/ssh -o "UserKnownHostsFile=$SSHLAB_KNOWN_HOSTS" -o GlobalKnownHostsFile=/dev/null "$@"
