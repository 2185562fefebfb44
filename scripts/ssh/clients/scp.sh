# scp, with both of its protocols: SFTP, and (-O) the old one, for which the far
# side runs a program.
client=scp version="SFTP and -O"

a_tree "$near/tree"
rm "$near/tree/link" # scp follows links
a_file "$near/file" 5000000
chmod 640 "$near/file"
touch -d '2003-03-04 05:06:07' "$near/file"
for protocol in -s -O; do
	rm -rf "${far:?}"/*
	succeeds "scp $protocol up" scp "$protocol" -p "$near/file" "guest:$far/file"
	same_files "scp $protocol -p up" "$near/file" "$far/file"
	succeeds "scp $protocol down" scp "$protocol" -p "guest:$far/file" "$near/back$protocol"
	same_files "scp $protocol -p down" "$near/file" "$near/back$protocol"
	succeeds "scp $protocol -r up" scp "$protocol" -rp "$near/tree" "guest:$far/tree"
	same_files "scp $protocol -rp up" "$near/tree" "$far/tree"
	succeeds "scp $protocol -r down" scp "$protocol" -rp "guest:$far/tree" "$near/tree$protocol"
	same_files "scp $protocol -rp down" "$near/tree" "$near/tree$protocol"
	mkdir "$far/into"
	succeeds "scp $protocol of many into a directory" scp "$protocol" -p "$near/file" "$near/tree/big" "guest:$far/into/"
	same_files "the first of many" "$near/file" "$far/into/file"
	succeeds "scp $protocol -3" scp "$protocol" -3 -p "guest:$far/file" "guest:$far/third"
	same_files "scp $protocol -3" "$near/file" "$far/third"
	status "scp $protocol of what is missing" fails scp "$protocol" "guest:$far/missing" "$near/x"
	status "scp $protocol of many onto a file" fails scp "$protocol" "$near/file" "$near/tree/big" "guest:$far/file"
	status "scp $protocol into a missing directory" fails scp "$protocol" "$near/file" "guest:$far/no/such/file"
	succeeds "scp $protocol of a glob" scp "$protocol" "guest:$far/into/*" "$near/"
	same_files "scp $protocol of a name with a space" "$near/tree/sub/with space" "$far/tree/sub/with space"
done
umask 027
echo text >"$near/plain"
chmod 604 "$near/plain"
succeeds "scp without -p" scp "$near/plain" "guest:$far/plain"
equal "its mode is the file's under the far umask" 604 "$(stat -c %a "$far/plain")"
finish
