//go:build linux

package proc

import (
	"bytes"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// A matcher finds out, byte by byte as they come, when a regular expression
// matches somewhere in a stream. It simulates the compiled program with a set
// of states (Thompson's algorithm), so that it needs no memory of the stream
// and finds a match that spans any number of chunks.
//
// regexp.MatchReader would do, if it did not read ahead: it tells of a prompt
// only when something comes after the prompt.
type matcher struct {
	prog    *syntax.Prog
	first   int      // the byte that every match begins with, or -1
	prev    rune     // the rune before, -1 at the start
	threads []uint32 // instructions to go on with, before empty transitions
	spare   []uint32
	seen    []uint32 // seen[pc] == mark: pc is in the closure being built
	mark    uint32
	closure []uint32 // rune instructions of the closure
	partial []byte   // the beginning of a rune
	offset  uint64   // of the next byte
}

// newMatcher makes a matcher for a stream of which the first byte has the
// given offset. The expression is one that regexp has compiled.
func newMatcher(re *regexp.Regexp, offset uint64) (*matcher, error) {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	m := &matcher{prog: prog, first: -1, prev: -1, offset: offset, seen: make([]uint32, len(prog.Inst))}
	if prefix, _ := prog.Prefix(); prefix != "" && prog.StartCond() == 0 {
		if r, _ := utf8.DecodeRuneInString(prefix); r != utf8.RuneError {
			m.first = int(prefix[0])
		}
	}
	return m, nil
}

// write takes the next bytes. It reports whether a match is complete; offset
// is then the one after its last byte. The end of what has come so far counts
// as the end of the text for $, \z and \b, so that a prompt can be found.
func (m *matcher) write(data []byte) (matched bool) {
	if len(m.partial) > 0 {
		data = append(m.partial, data...)
		m.partial = nil
	}
	for len(data) > 0 {
		if n := m.skip(data); n > 0 {
			data = data[n:]
			continue
		}
		if !utf8.FullRune(data) {
			m.partial = bytes.Clone(data)
			break
		}
		r, n := utf8.DecodeRune(data)
		if m.step(r) {
			return true
		}
		data = data[n:]
		m.offset += uint64(n)
	}
	return m.follow(-1)
}

// skip passes over bytes with which no match begins, if none has begun.
func (m *matcher) skip(data []byte) int {
	if m.first < 0 || len(m.threads) > 0 {
		return 0
	}
	n := bytes.IndexByte(data, byte(m.first))
	if n < 0 {
		// The last bytes may be part of a rune, which the caller looks at.
		n = len(data)
		for n > 0 && n > len(data)-utf8.UTFMax && !utf8.RuneStart(data[n-1]) {
			n--
		}
		n = max(0, n-1)
	}
	if n > 0 {
		m.prev, _ = utf8.DecodeLastRune(data[:n])
		m.offset += uint64(n)
	}
	return n
}

// step consumes r. True says that a match was complete before r.
func (m *matcher) step(r rune) bool {
	if m.follow(r) {
		return true
	}
	next := m.spare[:0]
	for _, pc := range m.closure {
		if inst := &m.prog.Inst[pc]; inst.MatchRune(r) {
			next = append(next, inst.Out)
		}
	}
	m.threads, m.spare = next, m.threads
	m.prev = r
	return false
}

// follow computes what can be reached without consuming anything between the
// previous rune and next (-1 at the end), and whether a match is among it.
func (m *matcher) follow(next rune) bool {
	m.mark++
	m.closure = m.closure[:0]
	cond := syntax.EmptyOpContext(m.prev, next)
	stack := append(m.threads[:len(m.threads):len(m.threads)], uint32(m.prog.Start))
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if m.seen[pc] == m.mark {
			continue
		}
		m.seen[pc] = m.mark
		switch inst := &m.prog.Inst[pc]; inst.Op {
		case syntax.InstMatch:
			return true
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, inst.Out, inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, inst.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(inst.Arg)&^cond == 0 {
				stack = append(stack, inst.Out)
			}
		case syntax.InstFail:
		default: // the rune instructions
			m.closure = append(m.closure, pc)
		}
	}
	return false
}
