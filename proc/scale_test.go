//go:build linux

package proc

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

func threads() int {
	tasks, _ := filepath.Glob("/proc/self/task/*")
	return len(tasks)
}

// A thousand at once: started by a thousand goroutines, alive at once, every
// output and exit in its place, and no thread per process.
func TestThousandAtOnce(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	before := threads()
	procs := make([]*Process, n)
	subs := make([]*Subscription, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			procs[i], subs[i], _, err = tab.StartAttached(ctx, Spec{Args: []string{"cat"}, Stdin: StdinPipe}, SubscribeOptions{Lossless: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if s := tab.Stats(); s.Running != n {
		t.Errorf("%+v", s)
	}
	for i := range n {
		wg.Go(func() {
			defer func() { _ = subs[i].Close() }()
			word := procs[i].ID()
			if _, err := procs[i].Write(ctx, []byte(word)); err != nil {
				t.Error(err)
			}
			if err := procs[i].CloseStdin(testContext(t)); err != nil {
				t.Error(err)
			}
			if out, _, e := collect(t, subs[i]); out != word || e == nil || !e.Success() {
				t.Errorf("%s: %q, %+v", word, out, e)
			}
		})
	}
	if got := threads() - before; got > 10+n/20 {
		t.Errorf("%d more threads for %d processes", got, n)
	}
	wg.Wait()
}

// Twenty thousand, one after the other and several at a time: everything that
// a process had is given back.
func TestTwentyThousand(t *testing.T) {
	n, workers := 20000, 8
	if testing.Short() {
		n = 1000
	}
	cfg := testConfig()
	cfg.MaxRetained = 100
	tab := newTable(t, cfg)
	runtime.GC()
	fds, goroutines := countFDs(), runtime.NumGoroutine()
	next := make(chan struct{}, n)
	for range n {
		next <- struct{}{}
	}
	close(next)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range next {
				p, _, err := tab.Start(testContext(t), Spec{Args: []string{"/bin/true"}})
				if err != nil {
					t.Error(err)
					return
				}
				if e := mustWait(t, p); !e.Success() || e.OutputHeld {
					t.Errorf("exit %+v", e)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all are retired", func() bool { s := tab.Stats(); return s.Running+s.Lingering == 0 })
	if s := tab.Stats(); s.Started != uint64(n) || s.Retained != 100 || s.RingBytes != 0 {
		t.Errorf("%+v", s)
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if got := countFDs(); got > fds+3 {
		t.Errorf("%d descriptors, before %d", got, fds)
	}
	if tab.tree != nil {
		if dirs, _ := filepath.Glob(filepath.Join(tab.tree.dir, "p-*")); len(dirs) > 0 {
			t.Errorf("%d cgroups are left", len(dirs))
		}
	}
}

// BenchmarkStartWait is P1 without the wire: /bin/true from start to exit,
// beside os/exec's.
func BenchmarkStartWait(b *testing.B) {
	b.Run("proc", func(b *testing.B) {
		tab := newTable(b, testConfig())
		ctx := b.Context()
		spec := Spec{Args: []string{"/bin/true"}}
		for b.Loop() {
			p, _, err := tab.Start(ctx, spec)
			if err != nil {
				b.Fatal(err)
			}
			<-p.Done()
		}
	})
	b.Run("osexec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
