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
	sparseMap      string   // of the formats before 1.0: offsets and lengths
	sparseNumbers  []string // its parts in 0.0, which has a record for each
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
	case "GNU.sparse.realsize", "GNU.sparse.size": // the latter before 1.0
		p.sparseSize = value
	case "GNU.sparse.map":
		p.sparseMap = value
	case "GNU.sparse.offset", "GNU.sparse.numbytes":
		p.sparseNumbers = append(p.sparseNumbers, value)
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
	if err := p.applySparse(h); err != nil {
		return err
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

// applySparse makes h a sparse file if the records say so. In format 1.0 the map
// is not here but before the data.
func (p *paxRecords) applySparse(h *header) error {
	marked := p.sparseMajor != "" || p.sparseMap != "" || p.sparseNumbers != nil
	if h.kind != kindFile || (p.sparseSize == "" && !marked) {
		return nil
	}
	if p.sparseSize == "" {
		return sparseError(h) // as an ordinary file it would hold its own map
	}
	setString(&h.name, p.sparseName)
	switch p.sparseMajor {
	case "1":
		h.isSparse = true
		return nil
	case "", "0":
		p.sparseMajor = ""
		if len(p.sparseNumbers) > 0 {
			p.sparseMap = strings.Join(p.sparseNumbers, ",")
		}
		return p.paxExtents(h)
	}
	return fmt.Errorf("sparse format %q: %w", p.sparseMajor, ErrHeader)
}

func setString(dst *string, value string) {
	if value != "" {
		*dst = value
	}
}
