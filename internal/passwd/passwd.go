// Package passwd resolves users and groups from /etc/passwd and /etc/group.
//
// It exists because guestd is a static binary without cgo: os/user then reads
// the same files but knows no login shell, caches the current user for the
// life of the process, and cannot resolve a numeric uid that has no entry. A
// guest may add users at any time, and an image without /etc/passwd must still
// run things as 0 or 1000, so every lookup reads the files again.
package passwd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownUser and ErrUnknownGroup are wrapped by the errors of [Lookup]: a
// name has no entry. A numeric id never gives them.
var (
	ErrUnknownUser  = errors.New("unknown user")
	ErrUnknownGroup = errors.New("unknown group")
)

// UnknownError says which name has no entry.
type UnknownError struct {
	Name string
	Err  error // ErrUnknownUser or ErrUnknownGroup
}

func (e *UnknownError) Error() string { return fmt.Sprintf("%v %q", e.Err, e.Name) }

// Unwrap returns the sentinel.
func (e *UnknownError) Unwrap() error { return e.Err }

// DefaultShell is the login shell of a user without one (passwd(5): an empty
// field means /bin/sh).
const DefaultShell = "/bin/sh"

// maxLine bounds one line of either file; a longer one is an error rather than
// unbounded memory.
const maxLine = 1 << 20

// Identity is everything that a process or a file operation of a user needs.
type Identity struct {
	Name   string   // login name; the decimal uid where there is no entry
	UID    uint32   // user id
	GID    uint32   // primary group id
	Groups []uint32 // supplementary groups, without duplicates; includes GID
	Home   string   // home directory; "/" where there is no entry
	Shell  string   // login shell, never empty
}

// Lookup resolves spec against the files of the running system: "name",
// "uid", "name:group", "uid:gid", in any mix of names and numbers. As in
// docker(1), a numeric uid need not have an entry: it then has group 0 unless
// one is named, home "/" and /bin/sh. A group that is named replaces the
// primary one; the supplementary groups stay.
func Lookup(spec string) (Identity, error) {
	return LookupIn("/", spec)
}

// LookupIn is [Lookup] with the files below the directory root.
func LookupIn(root, spec string) (Identity, error) {
	userPart, groupPart, hasGroup := strings.Cut(spec, ":")
	if userPart == "" || (hasGroup && groupPart == "") {
		return Identity{}, fmt.Errorf("user %q: want NAME|UID[:GROUP|GID]: %w", spec, ErrUnknownUser)
	}
	id, known, err := lookupUser(root, userPart)
	if err != nil {
		return Identity{}, err
	}
	groups, err := readGroups(root)
	if err != nil {
		return Identity{}, err
	}
	if hasGroup {
		if id.GID, err = groupID(groups, groupPart); err != nil {
			return Identity{}, err
		}
	}
	id.Groups = []uint32{id.GID}
	for _, g := range groups {
		if known && slices.Contains(g.members, id.Name) && !slices.Contains(id.Groups, g.gid) {
			id.Groups = append(id.Groups, g.gid)
		}
	}
	return id, nil
}

// UserName returns the login name of uid, or "" where it has no entry.
func UserName(uid uint32) string {
	name := ""
	_ = eachEntry("/etc/passwd", func(f []string) bool {
		if id, err := parseID(f, 2); err == nil && id == uid {
			name = f[0]
			return false
		}
		return true
	})
	return name
}

// GroupName returns the name of gid, or "" where it has no entry.
func GroupName(gid uint32) string {
	groups, _ := readGroups("/")
	for _, g := range groups {
		if g.gid == gid {
			return g.name
		}
	}
	return ""
}

// lookupUser finds an entry by name first, then by number: a user may well be
// called "1000". known says whether there is an entry.
func lookupUser(root, part string) (id Identity, known bool, err error) {
	number, numeric := parseNumber(part)
	var byName, byNumber *Identity
	err = eachEntry(filepath.Join(root, "etc/passwd"), func(f []string) bool {
		if len(f) < 7 {
			return true
		}
		uid, err1 := parseID(f, 2)
		gid, err2 := parseID(f, 3)
		if err1 != nil || err2 != nil {
			return true
		}
		entry := Identity{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}
		if byName == nil && f[0] == part {
			byName = &entry
		}
		if byNumber == nil && numeric && uid == number {
			byNumber = &entry
		}
		return byName == nil
	})
	if err != nil {
		return Identity{}, false, err
	}
	found := byName
	if found == nil {
		found = byNumber
	}
	switch {
	case found != nil:
		id = *found
	case numeric:
		id = Identity{Name: part, UID: number}
	case part == "root":
		// An image without /etc/passwd still has a root.
		id = Identity{Name: "root", Home: "/root"}
	default:
		return Identity{}, false, &UnknownError{part, ErrUnknownUser}
	}
	if id.Home == "" {
		id.Home = "/"
	}
	if id.Shell == "" {
		id.Shell = DefaultShell
	}
	return id, found != nil, nil
}

type group struct {
	name    string
	gid     uint32
	members []string
}

func readGroups(root string) ([]group, error) {
	var groups []group
	err := eachEntry(filepath.Join(root, "etc/group"), func(f []string) bool {
		gid, err := parseID(f, 2)
		if err != nil {
			return true
		}
		g := group{name: f[0], gid: gid}
		if len(f) > 3 && f[3] != "" {
			g.members = strings.Split(f[3], ",")
		}
		groups = append(groups, g)
		return true
	})
	return groups, err
}

func groupID(groups []group, part string) (uint32, error) {
	for _, g := range groups {
		if g.name == part {
			return g.gid, nil
		}
	}
	if n, ok := parseNumber(part); ok {
		return n, nil
	}
	return 0, &UnknownError{part, ErrUnknownGroup}
}

// eachEntry calls fn with the colon-separated fields of every line until it
// returns false. A file that does not exist has no entries. Comments, NIS
// markers and malformed lines are passed over, as libc does.
func eachEntry(path string, fn func(fields []string) bool) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return scanEntries(file, fn)
}

func scanEntries(r io.Reader, fn func(fields []string) bool) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		fields := strings.Split(scanner.Text(), ":")
		if len(fields) < 3 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "#+-") {
			continue
		}
		if !fn(fields) {
			return nil
		}
	}
	return scanner.Err()
}

func parseID(fields []string, i int) (uint32, error) {
	n, ok := parseNumber(fields[i])
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return n, nil
}

// parseNumber accepts decimal ids. 2³²-1 is not an id: chown(2) and
// setresuid(2) take it as "leave unchanged", which must never be asked for by
// name.
func parseNumber(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && uint32(n) != ^uint32(0)
}
