# rsync both ways. The far side's rsync is the guest's own.
client=rsync
command -v rsync >/dev/null || absent "no rsync"
version=$(rsync --version | sed -n 1p)
export RSYNC_RSH=ssh

a_tree "$near/tree"
succeeds "up" rsync -a "$near/tree/" "guest:$far/tree/"
same_files "-a up" "$near/tree" "$far/tree"
succeeds "down" rsync -a "guest:$far/tree/" "$near/back/"
same_files "-a down" "$near/tree" "$near/back"

rm "$near/tree/nothing"
echo more >>"$near/tree/sub/with space"
echo extra >"$far/tree/extra"
succeeds "again, with --delete" rsync -a --delete "$near/tree/" "guest:$far/tree/"
same_files "-a --delete" "$near/tree" "$far/tree"
succeeds "with checksums there is nothing to do" rsync -ac --delete "$near/tree/" "guest:$far/tree/"

a_file "$near/large" 100000000
succeeds "100 MB up" rsync -a "$near/large" "guest:$far/large"
same_files "100 MB up" "$near/large" "$far/large"
printf changed | dd of="$near/large" bs=1 seek=50000000 conv=notrunc status=none
touch -d '2004-01-01' "$near/large"
out=$(rsync -a --no-whole-file --stats "$near/large" "guest:$far/large")
equal "the status of a difference" 0 $?
same_files "a difference in 100 MB" "$near/large" "$far/large"
sent=$(awk '/Literal data/ {gsub(",", ""); print $3}' <<<"$out")
checks=$((checks + 1))
[ "${sent:-999999999}" -lt 1000000 ] || problem "a difference sends only itself" "$out"
status "a source that is missing" 23 rsync -a "guest:$far/missing" "$near/"
finish
