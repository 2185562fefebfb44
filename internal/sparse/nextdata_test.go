//go:build linux || darwin

package sparse

import (
	"os"
	"path/filepath"
	"testing"
)

// holed makes a file of data from 1 MiB to 2 MiB, and holes on either side.
func holed(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, f.Close()) })
	data := make([]byte, mib)
	data[0], data[len(data)-1] = 1, 1
	_, err = f.WriteAt(data, mib)
	must(t, err)
	must(t, f.Truncate(4*mib))
	if begin, end := NextData(int(f.Fd()), 0, 4*mib); begin == 0 && end == 4*mib {
		t.Skip("SKIP: the file system keeps no holes")
	}
	return f
}

const mib = 1 << 20

func TestNextData(t *testing.T) {
	fd := int(holed(t).Fd())
	for _, test := range []struct{ offset, size, begin, end int64 }{
		{0, 4 * mib, mib, 2 * mib},
		{mib, 4 * mib, mib, 2 * mib},
		{mib + 7, 4 * mib, mib + 7, 2 * mib},
		{0, mib + 9, mib, mib + 9},
		{0, mib - 9, mib - 9, mib - 9},
		{2 * mib, 4 * mib, 4 * mib, 4 * mib},
		{3 * mib, 4 * mib, 4 * mib, 4 * mib},
		{4 * mib, 4 * mib, 4 * mib, 4 * mib},
		{0, 100 * mib, mib, 2 * mib},
		{2 * mib, 100 * mib, 4 * mib, 4 * mib}, // it is shorter than was thought
		{5 * mib, 100 * mib, 5 * mib, 5 * mib},
	} {
		if begin, end := NextData(fd, test.offset, test.size); begin != test.begin || end != test.end {
			t.Errorf("from %d, of %d: %d to %d, want %d to %d", test.offset, test.size, begin, end, test.begin, test.end)
		}
	}
}

// What cannot seek has no holes.
func TestNextDataOfAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if begin, end := NextData(int(r.Fd()), 5, 100); begin != 5 || end != 100 {
		t.Errorf("%d to %d", begin, end)
	}
}
