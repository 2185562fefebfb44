//go:build linux

package guestnet

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseDiagErrors(t *testing.T) {
	message := func(kind uint16, body []byte) []byte {
		b := make([]byte, unix.SizeofNlMsghdr)
		binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
		binary.NativeEndian.PutUint16(b[4:], kind)
		return append(b, body...)
	}
	denied := binary.NativeEndian.AppendUint32(nil, ^uint32(unix.EPERM)+1)
	for _, c := range []struct {
		b    []byte
		want error
	}{
		{message(unix.NLMSG_ERROR, denied), unix.EPERM},
		{message(unix.NLMSG_ERROR, []byte{0, 0, 0, 0}), errTruncated},
		{message(unix.NLMSG_ERROR, nil), errTruncated},
		{message(unix.SOCK_DIAG_BY_FAMILY, make([]byte, diagMessage-1)), errTruncated},
		{message(unix.NLMSG_DONE, nil)[:10], errTruncated},
		{message(unix.NLMSG_DONE, make([]byte, 8))[:20], errTruncated},
		{message(unix.NLMSG_DONE, nil), nil},
	} {
		if _, done, err := parseDiag(nil, &tables[0], c.b); !errors.Is(err, c.want) || done != (c.want == nil) {
			t.Errorf("%x: %v, %v", c.b, done, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0"))
	f.Add([]byte("socket:[4711]"))
	f.Add(diagQuery(&tables[0]))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for i := range tables {
			_, _, _ = parseDiag(nil, &tables[i], b)
		}
		_, _ = parseOwner(1, b)
		_, _ = socketInode(b)
	})
}

func TestPacer(t *testing.T) {
	var p pacer
	now := time.Now()
	if got := p.rest(0, now); got != quickInterval {
		t.Errorf("at first: %v", got)
	}
	now = now.Add(quickFor + time.Millisecond)
	for _, want := range []time.Duration{2 * quickInterval, 4 * quickInterval, 8 * quickInterval, 16 * quickInterval, slowInterval, slowInterval} {
		if got := p.rest(0, now); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	p.excite()
	if got := p.rest(0, now); got != quickInterval || p.earliest != now.Add(spacing) {
		t.Errorf("after something happened: %v", got)
	}
	// What is dear is not done often, once the savings are used up.
	p.excite()
	if got := p.rest(savings, now); got != quickInterval {
		t.Errorf("from the savings: %v", got)
	}
	p.excite()
	if got := p.rest(time.Millisecond, now); got != dutyCycle*time.Millisecond || p.earliest != now.Add(got) {
		t.Errorf("after a dear look: %v", got)
	}
	if got := p.rest(time.Hour, now); got != maxRest {
		t.Errorf("after a very dear look: %v", got)
	}
}

// However often something happens, looking takes what is saved and then its
// share.
func TestPacerBudget(t *testing.T) {
	for _, cost := range []time.Duration{10 * time.Microsecond, 350 * time.Microsecond, 3 * time.Millisecond} {
		var p pacer
		began := time.Now()
		now, used := began, time.Duration(0)
		for now.Sub(began) < time.Hour {
			p.excite()
			now = now.Add(p.rest(cost, now))
			used += cost
		}
		if limit := savings + now.Sub(began)/dutyCycle + cost; used > limit {
			t.Errorf("looks that cost %v take %v of an hour, more than %v", cost, used, limit)
		}
	}
}
