# git over ssh: clone, push, fetch.
client=git version=$(git --version)
export GIT_SSH_COMMAND=ssh GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

git init -q --bare -b main "$far/repository.git"
git init -q -b main "$near/first"
cd "$near/first" || exit
a_tree .
git add .
git commit -q -m first
succeeds "push" git push -q "guest:$far/repository.git" main
succeeds "clone" git clone -q "guest:$far/repository.git" "$near/second"
equal "the clone's commit" "$(git rev-parse HEAD)" "$(git -C "$near/second" rev-parse HEAD)"
succeeds "the clone's content" diff -r -x .git -x empty "$near/first" "$near/second"
echo more >more
git add more
git commit -q -m second
succeeds "push again" git push -q "ssh://guest$far/repository.git" main
succeeds "fetch" git -C "$near/second" pull -q --ff-only
equal "what was fetched" more "$(cat "$near/second/more")"
status "a repository that is missing" 128 git clone -q "guest:$far/missing.git" "$near/third"
finish
