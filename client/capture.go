package client

import "strconv"

// prefixSuffix keeps the first and the last limit bytes of what is written.
type prefixSuffix struct {
	limit   int
	prefix  []byte
	suffix  []byte // ring once it is full
	at      int    // where the ring begins
	skipped int64
}

func (w *prefixSuffix) Write(p []byte) (int, error) {
	n := len(p)
	take := min(len(p), w.limit-len(w.prefix))
	w.prefix = append(w.prefix, p[:take]...)
	p = p[take:]
	if over := len(p) - w.limit; over > 0 {
		w.skipped += int64(over)
		p = p[over:]
	}
	take = min(len(p), w.limit-len(w.suffix))
	w.suffix = append(w.suffix, p[:take]...)
	for p = p[take:]; len(p) > 0; {
		took := copy(w.suffix[w.at:], p)
		w.skipped += int64(took)
		w.at = (w.at + took) % w.limit
		p = p[took:]
	}
	return n, nil
}

// Bytes returns both parts, with a note between them if something is missing.
func (w *prefixSuffix) Bytes() []byte {
	all := append([]byte(nil), w.prefix...)
	if w.skipped > 0 {
		all = append(all, "\n... "+strconv.FormatInt(w.skipped, 10)+" bytes left out ...\n"...)
	}
	all = append(all, w.suffix[w.at:]...)
	return append(all, w.suffix[:w.at]...)
}
