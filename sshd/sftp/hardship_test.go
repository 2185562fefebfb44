//go:build linux

package sftp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What could not be written is told again at the end, unless it was written
// after all.
func TestLostWrites(t *testing.T) {
	const rw = unix.O_RDWR
	full := unix.ENOSPC
	for name, c := range map[string]struct {
		flags int
		notes []func(*loss)
		want  error
	}{
		"none":      {rw, []func(*loss){written(rw, 0, 8)}, nil},
		"lost":      {rw, []func(*loss){written(rw, 0, 8), failed(rw, 8, 8, 3, full), written(rw, 16, 8)}, full},
		"again":     {rw, []func(*loss){failed(rw, 8, 8, 3, full), written(rw, 11, 5)}, nil},
		"in part":   {rw, []func(*loss){failed(rw, 8, 8, 3, full), written(rw, 12, 8)}, full},
		"twice":     {rw, []func(*loss){failed(rw, 8, 8, 0, full), failed(rw, 32, 8, 0, unix.EIO), written(rw, 32, 8)}, full},
		"appended":  {rw, []func(*loss){failed(rw|unix.O_APPEND, 0, 8, 0, full), written(rw|unix.O_APPEND, 0, 8)}, full},
		"read only": {rw, []func(*loss){failed(unix.O_RDONLY, 0, 8, 0, unix.EBADF)}, nil},
	} {
		var l loss
		for _, note := range c.notes {
			note(&l)
		}
		if !errors.Is(l.err, c.want) {
			t.Errorf("%s: %v, want %v", name, l.err, c.want)
		}
	}
}

func written(flags int, offset int64, size int) func(*loss) {
	return failed(flags, offset, size, size, nil)
}

func failed(flags int, offset int64, size, n int, err error) func(*loss) {
	return func(l *loss) { l.note(flags, offset, size, n, err) }
}

// /dev/full has no room for anything.
func TestCloseTellsLostWrites(t *testing.T) {
	c := newClient(t, "/", Server{})
	handle := c.open("/dev/full", openWrite)
	if got := c.status(typeWrite, handle, uint64(0), "hello"); got != codeFailure {
		t.Errorf("write: %v", got)
	}
	if got := c.status(typeClose, handle); got != codeFailure {
		t.Errorf("close: %v", got)
	}
}

// purse is a Budget that keeps account of the most that was taken.
type purse struct {
	mu         sync.Mutex
	left, most int
	size       int
}

func (p *purse) Take(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > p.left {
		return false
	}
	p.left -= n
	p.most = max(p.most, p.size-p.left)
	return true
}

func (p *purse) Give(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n
}

// Writes that wait take memory of the budget, and wait with the session where
// there is none; nothing is lost and all is given back.
func TestMemoryOfWritesThatWait(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	memory := &purse{left: 100 << 10, size: 100 << 10}
	c, served := startServer(t, dir, Server{Memory: memory})
	c.hello()
	handle := c.open(fifo, openWrite|openAppend)
	const size, count = 32 << 10, 12
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for i := range count {
			data := string(bytes.Repeat([]byte{byte(i)}, size))
			if _, err := c.conn.Write(packet(typeWrite, uint32(i), handle, uint64(0), data)); err != nil {
				t.Error(err)
			}
		}
	})
	got := make([]byte, size)
	for i := range count {
		for read := 0; read < size; {
			n, err := reader.Read(got[read:])
			if err != nil {
				t.Fatal(err)
			}
			read += n
		}
		if got[0] != byte(i) || got[size-1] != byte(i) {
			t.Fatalf("piece %d holds %d to %d", i, got[0], got[size-1])
		}
	}
	for range count {
		if code := c.statusOf(c.receive()); code != codeOK {
			t.Errorf("write: %v", code)
		}
	}
	if got := c.status(typeClose, handle); got != codeOK {
		t.Errorf("close: %v", got)
	}
	c.conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if memory.left != memory.size || memory.most == 0 {
		t.Errorf("%d of %d are left; most %d", memory.left, memory.size, memory.most)
	}
}

// Without memory for large answers a file comes in small ones.
func TestReadWithoutMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "/", Server{Memory: &purse{}})
	handle := c.open(path, openRead)
	var got []byte
	for len(got) < len(content) {
		a := c.call(typeRead, handle, uint64(len(got)), uint32(maxTransfer))
		data := a.bytes()
		if a.kind != typeData || len(data) == 0 || len(data) > leanSize {
			t.Fatalf("answer %d with %d bytes", a.kind, len(data))
		}
		got = append(got, data...)
	}
	if !bytes.Equal(got, content) {
		t.Error("other content")
	}
}
