//go:build linux

package passwd

import (
	"errors"
	"reflect"
	"strconv"
	"testing"
)

func TestCache(t *testing.T) {
	var cache Cache
	for _, spec := range []string{"root", "0", "4242:4243", "root"} {
		want, err1 := Lookup(spec)
		got, err2 := cache.Lookup(spec)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", spec, got, err2, want, err1)
		}
		// What the caller does to its copy is its own affair.
		got.Groups[0] = 77
	}
	if _, err := cache.Lookup("nobody of that name"); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("unknown user: %v", err)
	}
	// An answer for another version of the files is not used.
	cache.mu.Lock()
	cache.known["root"] = Identity{Name: "stale"}
	cache.version[0].size++
	cache.mu.Unlock()
	if got, err := cache.Lookup("root"); err != nil || got.Name != "root" {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	for i := range 2 * maxCached {
		if _, err := cache.Lookup(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(cache.known); n > maxCached {
		t.Errorf("%d answers are kept", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	b.Run("files", func(b *testing.B) {
		for b.Loop() {
			_, _ = Lookup("root")
		}
	})
	b.Run("cache", func(b *testing.B) {
		var cache Cache
		for b.Loop() {
			_, _ = cache.Lookup("root")
		}
	})
}
