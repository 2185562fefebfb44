//go:build linux

package client_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/guestd/guestd/client"
)

func TestManyAtOnce(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	var group sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range 300 {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			cmd := c.Command("cat")
			cmd.Stdin = strings.NewReader(fmt.Sprint(i))
			if out, err := cmd.Output(ctx); err != nil || string(out) != fmt.Sprint(i) {
				t.Errorf("%d: %q, %v", i, out, err)
			}
		})
	}
	group.Wait()
}

func TestOneReaderThatStopsStopsNoOther(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	stopped := make([]*client.Reader, 20)
	for i := range stopped {
		stopped[i] = must[*client.Reader](t)(c.Files().Open(ctx, "/dev/zero", client.ReadOptions{AllowSpecial: true}))
		closeLater(t, stopped[i])
	}
	if out, err := sh(c, "seq 200000 | tail -1").Output(ctx); err != nil || string(out) != "200000\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := sh(c, "seq 300000").Output(ctx); err != nil || !strings.HasSuffix(string(out), "\n300000\n") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}
