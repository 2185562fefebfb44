//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/guestd/guestd/client"
)

// demo is the story, act by act.
type demo struct {
	*show
	*sandbox
	local string // scratch directory on this side
	guest string // the project's directory in the guest
}

const (
	// linesTotal and cutEvery: the streamed process prints so many lines, and
	// the connection is cut after each cutEvery of them.
	linesTotal = 30_000
	cutEvery   = 6_000
)

// programs are the files of the project that is uploaded.
var programs = map[string]string{
	"README": "A project of three files.\n",
	"hello.sh": `#!/bin/sh
echo "hello from $(uname -n), Linux $(uname -r), as $(id -un)"
echo "this went to stderr" >&2
exit 3
`,
	"work/count.sh": `#!/bin/sh
# Prints numbered lines and keeps what it printed.
i=0
while [ $i -lt $1 ]; do
	i=$((i+1))
	echo "line $i of $1"
done | tee result.txt
`,
}

func (d *demo) meet(ctx context.Context) error {
	return d.timed("first call over a new connection", func() error {
		info, err := d.Info(ctx)
		if err != nil {
			return err
		}
		d.say("guestd %s on Linux %s, %d CPUs, %d MiB; child of pid %d", info.GetVersion(), info.GetKernelRelease(),
			info.GetCpus(), info.GetMemoryBytes()>>20, info.GetAgentParentPid())
		d.hint("--agent %s info", d.address)
		return nil
	})
}

func (d *demo) upload(ctx context.Context) error {
	d.title("Upload a directory")
	project := filepath.Join(d.local, "project")
	for name, text := range programs {
		path := filepath.Join(project, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("work/count.sh", filepath.Join(project, "count")); err != nil {
		return err
	}
	var err error
	if d.guest, err = d.Files().MkdirTemp(ctx, "/tmp", "demo-*"); err != nil {
		return err
	}
	return d.timed("upload of the directory", func() error {
		t, err := d.Upload(ctx, project, d.guest+"/project", client.UploadOptions{})
		if err != nil {
			return err
		}
		d.say("%d files, %d directories and %d symbolic link in %s/project, with their modes and times", t.Files, t.Directories, t.Symlinks, d.guest)
		d.hint("cp ./project :%s/", d.guest)
		return nil
	})
}

func (d *demo) command(ctx context.Context) error {
	d.title("Run a shell command in it")
	cmd := d.Shell("ls -l; ./hello.sh")
	cmd.Dir = d.guest + "/project"
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *client.ExitError
	err := d.timed("a shell command, start to exit", func() error {
		if err := cmd.Run(ctx); !errors.As(err, &exit) {
			return fmt.Errorf("it should have exited with 3, but: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for line := range strings.Lines(stdout.String()) {
		d.say("stdout │ %s", strings.TrimSuffix(line, "\n"))
	}
	for line := range strings.Lines(stderr.String()) {
		d.say("stderr │ %s", strings.TrimSuffix(line, "\n"))
	}
	d.say("exit code %d", exit.Code)
	d.hint("sh -w %s/project 'ls -l; ./hello.sh'", d.guest)
	if exit.Code != 3 || !strings.Contains(stderr.String(), "stderr") {
		return fmt.Errorf("the command's exit code is %d, its stderr %q", exit.Code, stderr.String())
	}
	return nil
}

func (d *demo) stream(ctx context.Context) error {
	d.title("Stream a long-running process, cut the connection, reattach")
	process, err := d.Start(ctx, client.Spec{
		Args: []string{"./count.sh", fmt.Sprint(linesTotal)},
		Dir:  d.guest + "/project/work",
	})
	if err != nil {
		return err
	}
	d.say("Process %s prints %d lines. The connection is cut after every %d.", process.ID(), linesTotal, cutEvery)
	d.hint("run --id count -w %s/project/work -- ./count.sh %d", d.guest, linesTotal)
	d.hint("attach count")
	return d.timed(fmt.Sprintf("%d lines over connections that were cut", linesTotal), func() error {
		return d.follow(ctx, process)
	})
}

// follow reads the process's output to its end and checks every line.
func (d *demo) follow(ctx context.Context, process *client.Process) error {
	attachment, err := process.Attach(ctx, client.AttachOptions{Lossless: true})
	if err != nil {
		return err
	}
	defer attachment.Close()
	var output bytes.Buffer
	lines, nextCut := 0, cutEvery
	for event, err := range attachment.Events() {
		switch {
		case err != nil:
			return err
		case event.Gap != nil:
			return fmt.Errorf("bytes are missing: %+v", *event.Gap)
		case event.Exit != nil:
			if !event.Exit.Success() {
				return fmt.Errorf("the process ended with %v", event.Exit)
			}
		}
		output.Write(event.Data)
		lines += bytes.Count(event.Data, []byte("\n"))
		if lines >= nextCut && lines < linesTotal {
			d.say("%6d lines, byte %8d: %d connection cut", lines, output.Len(), d.wire.cut())
			nextCut += cutEvery
		}
	}
	want := expectedOutput()
	if !bytes.Equal(output.Bytes(), want) {
		return fmt.Errorf("%d bytes arrived, which are not the %d that were written", output.Len(), len(want))
	}
	d.say("%6d lines, byte %8d: the end. Every byte arrived, once and in order.", lines, output.Len())
	return nil
}

func expectedOutput() []byte {
	var b bytes.Buffer
	for i := 1; i <= linesTotal; i++ {
		fmt.Fprintf(&b, "line %d of %d\n", i, linesTotal)
	}
	return b.Bytes()
}

func (d *demo) download(ctx context.Context) error {
	d.title("Download the result")
	from, to := d.guest+"/project/work", filepath.Join(d.local, "result")
	err := d.timed("download of the directory", func() error {
		_, err := d.Download(ctx, from, to, client.DownloadOptions{})
		return err
	})
	if err != nil {
		return err
	}
	d.hint("cp :%s ./result", from)
	got, err := os.ReadFile(filepath.Join(to, "result.txt"))
	if err != nil {
		return err
	}
	if sha256.Sum256(got) != sha256.Sum256(expectedOutput()) {
		return errors.New("the downloaded result is not what was printed")
	}
	d.say("result.txt: %d bytes, SHA-256 %x…, as printed", len(got), sha256.Sum256(got))
	_, err = d.Files().RemoveAll(ctx, d.guest)
	if err != nil {
		return err
	}
	if _, err := d.Files().Stat(ctx, d.guest); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("the directory is still there"), err)
	}
	return nil
}
