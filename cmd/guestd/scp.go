//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/sshd/scp"
)

const scpUsage = `The far half of scp, for guests that have none: what 'scp -O' starts there.

Usage: scp -t [-dpr] [--] TARGET    receive into TARGET
       scp -f [-pr] [--] PATH...    send the files

It speaks on standard input and output. To copy files, use scp on the other
side; without its -O that needs no scp here, only sftp-server.

  -d  TARGET must be a directory
  -p  keep times and modes
  -r  directories too

What else scp takes (-q, -v, -l LIMIT, -o OPTION...) is ignored.
`

// scpOptions are those of OpenSSH's scp: clients pass on more of them than have
// a meaning here.
const scpOptions = "dfhprt" + "12346ABCOTRqsv" + "D:F:J:P:S:X:c:i:l:o:"

var errScpUsage = errors.New("guestd has only the far half of scp, for -t or -f; 'guestd scp -h' explains")

// runSCP is `guestd scp`. It returns when the other half is done.
func runSCP(args []string, rw io.ReadWriter, stdout io.Writer) error {
	var sink, source bool
	var opts scp.Options
	rest, err := getopt(args, scpOptions, func(option byte, _ string) error {
		switch option {
		case 'd':
			opts.TargetDir = true
		case 'f':
			source = true
		case 'h':
			_, _ = io.WriteString(stdout, scpUsage)
			return errHelp
		case 'p':
			opts.Preserve = true
		case 'r':
			opts.Recursive = true
		case 't':
			sink = true
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case sink == source:
		return usageError{errScpUsage}
	case sink && len(rest) != 1:
		return usageError{fmt.Errorf("scp -t takes one target, not %d", len(rest))}
	}
	if opts.Files, err = ownFiles(); err != nil {
		return err
	}
	opts.Umask = uint32(unix.Umask(0))
	if sink {
		return scp.Sink(context.Background(), rw, opts, rest[0])
	}
	return scp.Source(context.Background(), rw, opts, rest)
}

// ownFiles is the view of the user who runs the process, from its working
// directory.
func ownFiles() (*fsops.FS, error) {
	system, err := fsops.New(fsops.Config{})
	if err != nil {
		return nil, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	return system.Own(cwd)
}
