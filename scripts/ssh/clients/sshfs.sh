# sshfs: a file system over sftp, with the reads and writes of programs.
client=sshfs
command -v sshfs >/dev/null || absent "no sshfs"
version=$(sshfs --version 2>&1 | head -n 1)
[ -c /dev/fuse ] && (exec 3<>/dev/fuse) 2>/dev/null || absent "no FUSE here: /dev/fuse cannot be opened"

mnt=$dir/mnt
mkdir "$mnt"
trap 'fusermount3 -u "$mnt" 2>/dev/null || fusermount -u "$mnt" 2>/dev/null || true' EXIT
if ! out=$(sshfs -o ssh_command=ssh "guest:$far" "$mnt" 2>&1); then
	case $out in
	*fuse*ermitted* | *mount*ermitted*) absent "no FUSE here: $out" ;;
	esac
	problem "mount" "$out"
	finish
fi
a_tree "$near/tree"
# sshfs writes when a file is closed, which may be after cp has set the times of
# the directory around it.
directory_times=
# cp copies in the order of inodes, and sets the owner of what a link leads to,
# for which sshfs has no other request: that must be there before the link is.
mkdir -p "$mnt/tree/sub/deep"
succeeds "cp -a in" cp -a "$near/tree/." "$mnt/tree"
same_files "cp -a in" "$near/tree" "$far/tree"
same_files "what is seen" "$near/tree" "$mnt/tree"
echo one >"$mnt/log"
echo two >>"$mnt/log"
equal "appending" "one two" "$(paste -sd ' ' "$far/log")"
a_file "$mnt/random" 2000000
cp "$far/random" "$near/random"
for offset in 1999000 7 1000000 65536 4096; do
	printf 'offset %d' "$offset" | tee >(dd of="$near/random" bs=1 seek="$offset" conv=notrunc status=none) |
		dd of="$mnt/random" bs=1 seek="$offset" conv=notrunc status=none
done
until_true 10 cmp "$near/random" "$far/random"
equal "writes in any order" "$(sha256sum <"$near/random")" "$(sha256sum <"$far/random")"
succeeds "rename over a file" mv "$mnt/log" "$mnt/random"
succeeds "rm -r" rm -r "$mnt/tree"
equal "what is left" random "$(ls "$far")"
succeeds "statfs" stat -f "$mnt"
finish
