package conformance

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/guestd/guestd/client"
)

// fileUsers is about as whom and from where.
func (s *suite) fileUsers(t *testing.T) {
	t.Run("chown", s.chown)
	t.Run("paths", s.relativePaths)
	t.Run("as user", s.asUser)
	t.Run("forbidden", s.forbidden)
}

func (s *suite) chown(t *testing.T) {
	uid, gid, _ := strings.Cut(s.needUser(t), ":")
	ctx, files, file := s.context(t), s.client.Files(), s.path(t, "file")
	owner := func(path string) string { return s.sh(t, "stat -c %%u:%%g %s", path) }
	s.put(t, file, "")
	link := file + "-link"
	must(t, files.Symlink(ctx, "file", link))
	must(t, files.Lchown(ctx, link, uid, gid))
	if got := owner(link) + " " + owner(file); got != uid+":"+gid+" 0:0" {
		t.Errorf("lchown: %s", got)
	}
	must(t, files.Chown(ctx, link, uid, ""))
	if got := owner(file); got != uid+":0" {
		t.Errorf("chown of the user: %s", got)
	}
	must(t, files.Chown(ctx, link, "", gid))
	if got := owner(file); got != uid+":"+gid {
		t.Errorf("chown of the group: %s", got)
	}
	must(t, files.Chown(ctx, link, "root", "root"))
	if got := owner(file); got != "0:0" {
		t.Errorf("chown by name: %s", got)
	}
	wantError(t, "unknown", files.Chown(ctx, file, "no-such-user", ""), client.ErrUnknownUser)
}

// relativePaths: from the home, from "~", from a base.
func (s *suite) relativePaths(t *testing.T) {
	ctx, dir := s.context(t), s.path(t, "base")
	s.sh(t, "mkdir %s; echo here >%s/file", dir, dir)
	if got, err := s.client.FilesAs("", dir).ReadFile(ctx, "file"); string(got) != "here\n" || err != nil {
		t.Errorf("from a base: %q, %v", got, err)
	}
	if got, err := s.client.FilesAs("", dir).ReadFile(ctx, "../base/./file"); string(got) != "here\n" || err != nil {
		t.Errorf("up from a base: %q, %v", got, err)
	}
	_, err := s.client.Files().Stat(ctx, "~no-such-user/x")
	wantError(t, "~ of nobody", err, client.ErrUnknownUser)
	home := s.sh(t, "cd ~ 2>/dev/null && pwd -P; :")
	if home == "" {
		t.Skip("the agent's user has no home")
	}
	for _, p := range []string{"", "~", "~/", "."} {
		if got, err := s.client.Files().RealPath(ctx, p, false); got != home || err != nil {
			t.Errorf("%q is %q, %v; want %q", p, got, err, home)
		}
	}
	if got, err := s.client.Files().RealPath(ctx, "~root", true); got != s.sh(t, "cd / && echo ~root") || err != nil {
		t.Errorf("~root is %q, %v", got, err)
	}
	if got, err := s.client.FilesAs("", "~").RealPath(ctx, "x-y-z", true); got != strings.TrimSuffix(home, "/")+"/x-y-z" || err != nil {
		t.Errorf("base ~: %q, %v", got, err)
	}
}

// asUser: what a user makes is the user's.
func (s *suite) asUser(t *testing.T) {
	user := s.needUser(t)
	ctx, files, dir := s.context(t), s.client.FilesAs(user, ""), s.path(t, "")+"/"
	must(t, files.Mkdir(ctx, dir+"dir", 0o755))
	_, err := files.WriteBytes(ctx, dir+"written", []byte("x"), client.WriteOptions{})
	must(t, err)
	_, err = files.WriteBytes(ctx, dir+"p/q/written", []byte("x"), client.WriteOptions{Parents: true})
	must(t, err)
	_, err = files.WriteBytes(ctx, dir+"appended", []byte("x"), client.WriteOptions{Mode: client.Append})
	must(t, err)
	f, err := files.Create(ctx, dir+"created")
	must(t, err)
	must(t, f.Close())
	must(t, files.Symlink(ctx, "x", dir+"symlink"))
	_, err = files.Copy(ctx, "/proc/version", dir+"copied", client.CopyOptions{})
	must(t, err)
	_, err = files.CreateTemp(ctx, dir, "temp-*")
	must(t, err)
	if got := s.sh(t, "cd %s; find . -mindepth 1 | xargs stat -c %%u:%%g | sort -u", dir); got != user {
		t.Errorf("the owners are %s, want %s", got, user)
	}
	// Root's file that is open to all, replaced by the user, is the user's.
	s.sh(t, "cd %s; echo root >open; chmod 666 open", dir)
	_, err = files.WriteBytes(ctx, dir+"open", []byte("user"), client.WriteOptions{})
	must(t, err)
	if got := s.sh(t, "stat -c %%u:%%g:%%a %sopen", dir); got != user+":666" {
		t.Errorf("a replaced file is %s", got)
	}
	// And root's rewriting leaves it to the user.
	s.put(t, dir+"open", "root again")
	if got := s.sh(t, "stat -c %%u:%%g:%%a %sopen", dir); got != user+":666" {
		t.Errorf("after root replaced it, it is %s", got)
	}
	who, err := s.client.Files().WriteBytes(ctx, dir+"given", []byte("x"), client.WriteOptions{Owner: user, Perm: 0o600})
	if err != nil || who.Mode() != 0o600 || s.sh(t, "stat -c %%u:%%g %sgiven", dir) != user {
		t.Errorf("a file given to the user: %v, %v", who, err)
	}
}

// forbidden: what the user may not do fails, and changes nothing.
func (s *suite) forbidden(t *testing.T) {
	user := s.needUser(t)
	uid, _, _ := strings.Cut(user, ":")
	ctx, files, dir := s.context(t), s.client.FilesAs(user, ""), s.path(t, "closed")
	file := dir + "/file"
	s.sh(t, "mkdir %s; echo secret >%s; echo open >%s/open; chmod 600 %s; chmod 755 %s; chmod 644 %s/open", dir, file, dir, file, dir, dir)
	before := s.sh(t, "cd %s; stat -c '%%n %%a %%u %%g %%s %%Y' . *", dir)
	_, readErr := files.ReadFile(ctx, file)
	_, openErr := files.OpenFile(ctx, file, client.OpenOptions{Read: true})
	_, writeErr := files.WriteBytes(ctx, file, []byte("x"), client.WriteOptions{})
	_, newErr := files.WriteBytes(ctx, dir+"/new", []byte("x"), client.WriteOptions{})
	_, appendErr := files.WriteBytes(ctx, dir+"/open", []byte("x"), client.WriteOptions{Mode: client.Append})
	_, removeErr := files.RemoveAll(ctx, file)
	_, copyErr := files.Copy(ctx, dir+"/open", dir+"/copy", client.CopyOptions{})
	_, copyFromErr := files.Copy(ctx, file, s.path(t, "copy"), client.CopyOptions{})
	_, treeErr := s.client.Upload(ctx, t.TempDir(), dir+"/tree", client.UploadOptions{User: user})
	_, watchErr := files.Watch(ctx, file, client.WatchOptions{})
	_, tempErr := files.MkdirTemp(ctx, dir, "")
	for what, err := range map[string]error{
		"read": readErr, "open": openErr, "write": writeErr, "make": newErr, "append": appendErr, "remove": removeErr, "copy": copyErr,
		"copy from": copyFromErr, "upload": treeErr, "watch": watchErr, "temp": tempErr,
		"mkdir":    files.Mkdir(ctx, dir+"/dir", 0o777),
		"rename":   files.Rename(ctx, dir+"/open", dir+"/renamed", client.RenameOptions{}),
		"symlink":  files.Symlink(ctx, "x", dir+"/symlink"),
		"chmod":    files.Chmod(ctx, dir+"/open", 0o777),
		"chown":    files.Chown(ctx, dir+"/open", uid, ""),
		"truncate": files.Truncate(ctx, dir+"/open", 0),
	} {
		wantError(t, what, err, fs.ErrPermission)
	}
	own := s.path(t, "own")
	_, err := files.WriteBytes(ctx, own, nil, client.WriteOptions{})
	must(t, err)
	wantError(t, "give away", files.Chown(ctx, own, "0", ""), fs.ErrPermission, syscall.EPERM)
	_, err = files.ReadFile(ctx, "/proc/1/environ")
	wantError(t, "the agent's secrets", err, fs.ErrPermission)
	if after := s.sh(t, "cd %s; stat -c '%%n %%a %%u %%g %%s %%Y' . *", dir); after != before {
		t.Errorf("%s\nbecame\n%s", before, after)
	}
}
