//go:build linux

package guestnet

import "time"

// BindAll listens on the literal addresses of a name.
var BindAll = bindAll

// Dumps reads a table in both ways.
func Dumps() (diag, proc [][]Port, err error) {
	for i := range tables {
		d, err := diagDump(&tables[i])
		if err != nil {
			return nil, nil, err
		}
		p, err := procDump(&tables[i])
		if err != nil {
			return nil, nil, err
		}
		diag, proc = append(diag, d), append(proc, p)
	}
	return diag, proc, nil
}

// WithoutDiag makes p read /proc/net.
func (p *Ports) WithoutDiag() {
	p.reading.Lock()
	defer p.reading.Unlock()
	p.broken, p.retry = true, time.Now().Add(diagRetry)
}

// UsesDiag reports whether p asks sock_diag.
func (p *Ports) UsesDiag() bool {
	p.reading.Lock()
	defer p.reading.Unlock()
	return !p.broken
}

// Looks is how often p has looked.
func (p *Ports) Looks() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looks
}
