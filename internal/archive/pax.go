package archive

import (
	"fmt"
	"strconv"
	"strings"
)

// paxRecords holds what a pax header says about the entry behind it. An empty
// string, as an empty record, says nothing.
type paxRecords struct {
	path, linkpath string
	uname, gname   string
	uid, gid, size string
	mtime          string
	sparseMajor    string
	sparseName     string
	sparseSize     string
	sparseOther    bool // records of the sparse formats before 1.0
	xattrs         []xattr
}

func (p *paxRecords) reset() {
	*p = paxRecords{}
}

// parse takes in the body of a pax header. Keys that are not known are ignored,
// as POSIX asks for.
func (p *paxRecords) parse(body string) error {
	for body != "" {
		length, _, ok := strings.Cut(body, " ")
		n, err := strconv.ParseUint(length, 10, 31)
		if !ok || err != nil || int(n) > len(body) || int(n) < len(length)+3 || body[n-1] != '\n' {
			return fmt.Errorf("pax record: %w", ErrHeader)
		}
		record := body[len(length)+1 : n-1]
		body = body[n:]
		key, value, ok := strings.Cut(record, "=")
		if !ok || key == "" {
			return fmt.Errorf("pax record %q: %w", record, ErrHeader)
		}
		p.set(key, value)
	}
	return nil
}

func (p *paxRecords) set(key, value string) {
	switch key {
	case "path":
		p.path = value
	case "linkpath":
		p.linkpath = value
	case "uname":
		p.uname = value
	case "gname":
		p.gname = value
	case "uid":
		p.uid = value
	case "gid":
		p.gid = value
	case "size":
		p.size = value
	case "mtime":
		p.mtime = value
	case "GNU.sparse.major":
		p.sparseMajor = value
	case "GNU.sparse.name":
		p.sparseName = value
	case "GNU.sparse.realsize":
		p.sparseSize = value
	case "GNU.sparse.map", "GNU.sparse.numblocks", "GNU.sparse.offset":
		p.sparseOther = true
	default:
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && name != "" {
			p.xattrs = append(p.xattrs, xattr{unescapeXattr(name), value})
		}
	}
}

// apply overrides h's fields with the records.
func (p *paxRecords) apply(h *header) error {
	setString(&h.name, p.path)
	setString(&h.link, p.linkpath)
	setString(&h.uname, p.uname)
	setString(&h.gname, p.gname)
	h.xattrs = p.xattrs
	if p.mtime != "" {
		t, ok := parseTime(p.mtime)
		if !ok {
			return fmt.Errorf("pax mtime %q: %w", p.mtime, ErrHeader)
		}
		h.mtime = t
	}
	if p.sparseMajor == "1" && h.kind == kindFile {
		h.isSparse = true
		setString(&h.name, p.sparseName)
	} else if p.sparseMajor != "" || p.sparseOther {
		return fmt.Errorf("sparse format before 1.0: %w", ErrHeader)
	}
	for _, f := range []struct {
		dst   *int64
		value string
		max   int64
	}{
		{&h.uid, p.uid, 1<<63 - 1},
		{&h.gid, p.gid, 1<<63 - 1},
		{&h.size, p.size, maxSize},
		{&h.realSize, p.sparseSize, maxSize},
	} {
		if f.value == "" {
			continue
		}
		n, err := strconv.ParseInt(f.value, 10, 64)
		if err != nil || n < 0 || n > f.max {
			return fmt.Errorf("pax number %q: %w", f.value, ErrHeader)
		}
		*f.dst = n
	}
	return nil
}

func setString(dst *string, value string) {
	if value != "" {
		*dst = value
	}
}
