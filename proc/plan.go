//go:build linux

package proc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/guestd/guestd/internal/passwd"
)

// A plan is a Spec resolved against the system as it is now: everything that
// can be known to fail before a fork has been looked at.
type plan struct {
	spec     *Spec
	identity passwd.Identity
	cred     *syscall.Credential // nil: stay the agent's user
	programs []string            // candidates, as execvp(3) would try them
	argv     []string
	env      []string
	dir      string
}

func (t *Table) plan(s *Spec) (*plan, error) {
	p := &plan{spec: s}
	if err := p.setUser(t.cfg.Passwd); err != nil {
		return nil, err
	}
	if err := p.setDir(); err != nil {
		return nil, err
	}
	shell := s.Shell
	if shell == "" {
		shell = p.identity.Shell
	}
	p.env = t.env.merge(s, p.identity, shell)
	p.argv = s.Args
	program := shell
	switch {
	case len(s.Args) > 0:
		program = s.Args[0]
	case s.Login:
		p.argv = []string{"-" + filepath.Base(shell)}
	default:
		// As login(1), su(1) and sshd(8) call it: the shell puts this name
		// before its messages.
		p.argv = []string{filepath.Base(shell)}
	}
	if s.Script != "" {
		p.argv = append(p.argv, "-c", s.Script)
	}
	var err error
	p.programs, err = lookPath(program, p.env, p.dir)
	return p, err
}

// setUser resolves Spec.User. Becoming another user takes root.
func (p *plan) setUser(lookup func(string) (passwd.Identity, error)) error {
	user := p.spec.User
	if user == "" {
		user = strconv.Itoa(os.Geteuid())
	}
	id, err := lookup(user)
	if err != nil {
		if unknown, ok := errors.AsType[*passwd.UnknownError](err); ok && unknown.Name == user {
			err = unknown.Err // the name is said already
		}
		return &StartError{StageUser, user, err}
	}
	p.identity = id
	switch {
	case p.spec.User == "":
	case os.Geteuid() == 0:
		p.cred = &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: id.Groups}
	case int(id.UID) != os.Geteuid() || int(id.GID) != os.Getegid():
		return &StartError{StageUser, user, syscall.EPERM}
	}
	return nil
}

// setDir resolves Spec.Dir. A missing directory is found here, one that the
// user may not enter only by the child.
func (p *plan) setDir() error {
	home, dir := p.identity.Home, p.spec.Dir
	if home == "" {
		home = "/"
	}
	switch {
	case dir == "":
		p.dir = "/"
		if fi, err := os.Stat(home); err == nil && fi.IsDir() {
			p.dir = home
		}
		return nil
	case dir == "~":
		dir = home
	case strings.HasPrefix(dir, "~/"):
		dir = filepath.Join(home, dir[2:])
	case !filepath.IsAbs(dir):
		dir = filepath.Join(home, dir)
	}
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &StartError{StageCwd, dir, errnoOf(err)}
	}
	p.dir = dir
	return nil
}

// lookPath lists what name may mean, in the order of the PATH in env. As
// with execvp(3) an empty or relative element is relative to the working
// directory. The kernel, not this function, decides who may execute what.
func lookPath(name string, env []string, dir string) ([]string, error) {
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	path, ok := getenv(env, "PATH")
	if !ok {
		path = DefaultPath
	}
	var found []string
	var err error = syscall.ENOENT
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		file := filepath.Join(d, name)
		fi, serr := os.Stat(file)
		switch {
		case errors.Is(serr, syscall.ENOENT), errors.Is(serr, syscall.ENOTDIR):
		case serr != nil:
			err = errnoOf(serr) // a name that is too long, a file system that is broken
		case fi.IsDir():
		case fi.Mode()&0o111 == 0:
			err = syscall.EACCES
		default:
			found = append(found, file)
		}
	}
	if len(found) == 0 {
		return nil, &StartError{StageLookup, name, err}
	}
	return found, nil
}

// errnoOf strips the operation and path that the os package adds.
func errnoOf(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var se *os.SyscallError
	if errors.As(err, &se) {
		return se.Err
	}
	return err
}
