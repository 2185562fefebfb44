//go:build linux

package proc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/guestd/guestd/proc"
)

// A command whose output is followed to the end, without a byte lost.
func ExampleTable_StartAttached() {
	ctx := context.Background()
	table, err := proc.NewTable(proc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = table.Close() }()

	spec := proc.Spec{Script: "echo hello; exit 3", Shell: "/bin/sh"}
	_, sub, _, err := table.StartAttached(ctx, spec, proc.SubscribeOptions{Lossless: true})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	buf := make([]byte, 64<<10)
	for {
		ev, err := sub.Next(ctx, buf)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		if ev.Exit != nil {
			fmt.Println("exit", ev.Exit.Code)
		} else {
			fmt.Printf("%s at %d: %s", ev.Stream, ev.Offset, ev.Data)
		}
	}
	// Output:
	// stdout at 0: hello
	// exit 3
}
