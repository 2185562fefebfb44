# ssh-audit: no failure, and of warnings only the one that curve25519 is not safe
# from quantum computers, which stays as long as Debian 12's client knows nothing
# better. Terrapin (CVE-2023-48795) is looked for too.
client=ssh-audit
[ "$DOOR" = guestd ] || absent "this is about what guestd offers"
audit=$root/.tools/ssh-venv/bin/ssh-audit
[ -x "$audit" ] || absent "no .tools/ssh-venv: run scripts/setup-ssh-clients.sh"
version=$("$audit" --help 2>&1 | head -n 1 | sed 's/\x1b[^m]*m//g; s/,.*//; s/^# //')
report=$("$audit" --no-colors --skip-rate-test -p "$door_port" 127.0.0.1 2>&1)
like "a report" 'ssh-ed25519' "$report"
equal "failures" "" "$(grep -F '[fail]' <<<"$report")"
equal "warnings but the one of curve25519" "" "$(grep -F '[warn]' <<<"$report" | grep -v 'curve25519.*does not provide protection against post-quantum')"
equal "Terrapin" "" "$(grep -iE 'terrapin|CVE-2023-48795' <<<"$report" | grep -v 'counter-measure')"
like "strict key exchange" 'kex-strict-s-v00@openssh.com' "$report"
equal "chacha20-poly1305" "" "$(grep chacha20 <<<"$report" | grep '(enc)')"
finish
