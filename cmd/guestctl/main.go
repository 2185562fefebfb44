// Command guestctl is the command line for one guestd agent: it runs programs
// in a guest and moves files, from the host. See `guestctl help`.
package main

import (
	"context"
	"os"
)

func main() {
	ignoreBrokenPipes()
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	os.Exit(a.run(context.Background(), os.Args[1:]))
}
