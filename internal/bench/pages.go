//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"
)

// Bits of an entry of /proc/PID/pagemap
// (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagemapEntry  = 8 // bytes
	pageSoftDirty = 1 << 55
	pagePresent   = 1 << 63
)

// watchPages begins to watch which pages a process writes. What it returns tells
// how many those were, and how they were found.
func watchPages(pid int) (written func() (pages int, how string, err error), err error) {
	if !softDirty() {
		seed := maphash.MakeSeed()
		before, err := contents(pid, seed)
		return func() (int, string, error) {
			after, err := contents(pid, seed)
			return after.differentFrom(before), "pages whose content changed: this kernel does not mark the others that were written (CONFIG_MEM_SOFT_DIRTY)", err
		}, err
	}
	err = clearSoftDirty(fmt.Sprint(pid))
	return func() (int, string, error) {
		n, err := softDirtyPages(pid)
		return n, "", err
	}, err
}

func clearSoftDirty(pid string) error {
	return os.WriteFile("/proc/"+pid+"/clear_refs", []byte("4"), 0)
}

// softDirty says whether this kernel tracks soft-dirty pages: a page that was
// just written must be marked.
func softDirty() bool {
	if clearSoftDirty("self") != nil {
		return false
	}
	touched := make([]byte, 1<<20)
	for i := range touched {
		touched[i] = 1
	}
	pages, err := softDirtyPages(os.Getpid())
	return err == nil && pages > 0 && touched[0] == 1
}

// softDirtyPages counts the pages that were written since clear_refs was
// written to (Documentation/admin-guide/mm/soft-dirty.rst).
func softDirtyPages(pid int) (int, error) {
	count := 0
	err := writablePages(pid, func(_ int64, bits uint64) {
		if bits&pageSoftDirty != 0 {
			count++
		}
	})
	return count, err
}

// A memory is what is in the writable pages of a process: a hash of each, by
// address.
type memory map[int64]uint64

func contents(pid int, seed maphash.Seed) (memory, error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	m := make(memory)
	page := make([]byte, os.Getpagesize())
	return m, writablePages(pid, func(at int64, _ uint64) {
		// Not those of a device, or gone in the meantime.
		if _, err := mem.ReadAt(page, at); err == nil {
			m[at] = maphash.Bytes(seed, page)
		}
	})
}

// differentFrom counts the pages that are new in m, or have other contents.
func (m memory) differentFrom(before memory) int {
	count := 0
	for at, hash := range m {
		if old, ok := before[at]; !ok || old != hash {
			count++
		}
	}
	return count
}

// writablePages calls visit with the address and the pagemap bits of each
// writable page that is present.
func writablePages(pid int, visit func(at int64, bits uint64)) error {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return err
	}
	defer pagemap.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var access string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &access); n != 3 || !strings.Contains(access, "w") {
			continue
		}
		if err := presentIn(pagemap, from, to, visit); err != nil {
			return err
		}
	}
	return nil
}

func presentIn(pagemap io.ReaderAt, from, to int64, visit func(at int64, bits uint64)) error {
	const batch = 64 << 10
	pageSize := int64(os.Getpagesize())
	buffer := make([]byte, batch)
	for at := from; at < to; at += batch / pagemapEntry * pageSize {
		want := min(batch, (to-at)/pageSize*pagemapEntry)
		n, err := pagemap.ReadAt(buffer[:want], at/pageSize*pagemapEntry)
		for i := 0; i+pagemapEntry <= n; i += pagemapEntry {
			bits := binary.NativeEndian.Uint64(buffer[i:])
			if bits&pagePresent != 0 {
				visit(at+int64(i/pagemapEntry)*pageSize, bits)
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
