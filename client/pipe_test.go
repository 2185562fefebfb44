package client

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func TestPipeCarriesEverything(t *testing.T) {
	want := make([]byte, 5*pipeSize+123)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(want)
	p := newPipe()
	done := make(chan error, 1)
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(2*pipeSize))
			if _, err := p.write(rest[:n]); err != nil {
				done <- err
				return
			}
			rest = rest[n:]
		}
		p.end()
		done <- nil
	}()
	got, err := io.ReadAll(iotest.HalfReader(pipeReader{p}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived changed, of %d", len(got), len(want))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPipeHoldsAPipesWorth(t *testing.T) {
	p := newPipe()
	if n, err := p.write(make([]byte, pipeSize)); n != pipeSize || err != nil {
		t.Fatal(n, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := p.write([]byte{1})
		done <- err
	}()
	if err := (pipeReader{p}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write to a closed pipe: %v", err)
	}
	if _, err := p.read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read from a closed pipe: %v", err)
	}
}

func TestPrefixSuffix(t *testing.T) {
	for _, size := range []int{0, 1, 4, 5, 8, 9, 10, 100} {
		for _, step := range []int{1, 3, 1000} {
			w := &prefixSuffix{limit: 4}
			all := make([]byte, size)
			for i := range all {
				all[i] = byte('a' + i%26)
			}
			for rest := all; len(rest) > 0; {
				n, err := w.Write(rest[:min(step, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			got := w.Bytes()
			if size <= 8 {
				if !bytes.Equal(got, all) {
					t.Errorf("%d bytes in steps of %d: %q, want %q", size, step, got, all)
				}
				continue
			}
			if !bytes.HasPrefix(got, all[:4]) || !bytes.HasSuffix(got, all[size-4:]) {
				t.Errorf("%d bytes in steps of %d: %q", size, step, got)
			}
			if note := []byte("bytes left out"); !bytes.Contains(got, note) {
				t.Errorf("%d bytes in steps of %d: nothing is said of the rest: %q", size, step, got)
			}
		}
	}
}
