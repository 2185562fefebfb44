# sftp, driven by batch files.
client=sftp version="batch files"

batch() { sftp -q -b - guest; }
a_file "$near/file" 10000000
chmod 640 "$near/file"
touch -d '2003-03-04 05:06:07' "$near/file"
a_tree "$near/tree"
rm "$near/tree/link"

succeeds "put and get with -p" bash -c "sftp -q -b - guest <<<'put -p $near/file $far/file
get -p $far/file $near/back'"
same_files "put -p" "$near/file" "$far/file"
same_files "get -p" "$near/file" "$near/back"

batch >/dev/null 2>"$near/err" <<-BATCH
	put -rp $near/tree $far/
	get -rp $far/tree $near/tree.back
BATCH
equal "the status of put -r and get -r" 0 $?
same_files "put -rp" "$near/tree" "$far/tree"
same_files "get -rp" "$near/tree" "$near/tree.back"

# What is half there is completed.
head -c 4000000 "$near/file" >"$far/half"
head -c 4000000 "$near/file" >"$near/half"
batch >/dev/null 2>&1 <<-BATCH
	reput $near/file $far/half
	reget $far/file $near/half
BATCH
equal "the status of reput and reget" 0 $?
equal "reput" "$(sha256sum <"$near/file")" "$(sha256sum <"$far/half")"
equal "reget" "$(sha256sum <"$near/file")" "$(sha256sum <"$near/half")"

out=$(batch 2>&1 <<-BATCH
	cd $far
	pwd
	mkdir d
	chmod 750 d
	rename file d/renamed
	ln -s d/renamed symlink
	ln d/renamed hardlink
	ls -l symlink
	df
	rm half
	rmdir tree/empty
	copy d/renamed d/copied
BATCH
)
equal "the status of the rest" 0 $? 
like "pwd" "Remote working directory: $far" "$out"
equal "chmod" 750 "$(stat -c %a "$far/d")"
equal "ln -s" d/renamed "$(readlink "$far/symlink")"
equal "ln" "$(stat -c %i "$far/d/renamed")" "$(stat -c %i "$far/hardlink")"
like "df" 'Avail' "$out"
equal "rm" "" "$(ls "$far/half" 2>/dev/null)"
equal "copy" "$(sha256sum <"$near/file")" "$(sha256sum <"$far/d/copied")"

status "get of what is missing" 1 bash -c "sftp -q -b - guest <<<'get $far/missing $near/x'"
status "mkdir of what is there" 1 bash -c "sftp -q -b - guest <<<'mkdir $far/d'"
status "rmdir of what is not empty" 1 bash -c "sftp -q -b - guest <<<'rmdir $far/d'"
equal "the start directory is the home" "Remote working directory: $(cd && pwd -P)" "$(batch <<<pwd | grep Remote)"
mkdir "$far/many"
(cd "$far/many" && seq 1 3000 | xargs touch)
equal "ls of 3000 names" 3000 "$(batch <<<"ls -1 $far/many" | grep -vc '^sftp>')"
like "ls -l names owner and mode" "^-rw-r-----? .*$(id -un).* renamed" "$(batch <<<"ls -l $far/d" | grep renamed | sed 's|[^ ]*/d/||')"
finish
