// Package client is how a program on the host uses a guest in which guestd
// runs: it starts programs there, as package os/exec does here, and reads and
// writes its files, as package os does.
//
//	c, err := client.New(dial, client.Config{Name: "vsock:3:1024"})
//	err = c.Ready(ctx)
//	out, err := c.Command("uname", "-a").Output(ctx)
//
// A [Client] needs nothing but a function that connects to the agent; package
// vsock has one for every kind of address.
//
// # What to use
//
// For a program that you wait for, with its output and its exit: [Client.Command]
// and [Client.Shell]. They return os/exec's Cmd, as far as a Cmd can be remote,
// and survive a broken connection without losing output.
//
// For one that is to live on its own: [Client.Start], then [Client.Process] from
// anywhere, at any time: [Process.Attach] reads its output from where you were,
// [Process.Wait] waits for its end, a port, a line of output, a file or an HTTP
// answer, [Process.Signal] reaches it or all that descends from it.
//
// For whole files and trees: [Client.Upload] and [Client.Download].
//
// For everything else about files: [Client.Files], or [Client.FilesAs] with the
// rights of some user: [Files.WriteFile] stores a stream atomically,
// [Files.Open] reads one, [Files.OpenFile] gives a handle to seek in.
//
// For code that works with package io/fs: [Client.FS].
//
// For people, and programs that speak SSH: [Client.Grant] lets the holder of a
// key or a secret in, [Client.DialSSH] connects by itself, [Client.WatchSSH]
// reports what everybody does.
//
// For what this package does not wrap: [Client.Conn] and the stubs of guestd.v1.
//
// # Contexts
//
// Every call takes a context, which bounds all of it; there are no time-outs
// other than the documented ones. Reader, Watch, Attachment and File keep the
// context that they were made with, because the methods of package io have none,
// and because each is one call in progress: ending the context ends it. FS keeps
// one for the methods of package io/fs.
//
// # Errors
//
// What the guest refuses is an [*Error], for which errors.Is with fs.ErrNotExist,
// fs.ErrPermission, a syscall.Errno or this package's sentinels holds. A program
// that could not be started is a [*StartError], one that ended badly an
// [*ExitError]. No or a broken connection is a [*ConnectionError], which is
// [ErrUnavailable]. Errors of this machine's files are the os package's own.
//
// # The guest is not trusted
//
// A guest may be compromised. What it sends is bounded in size, its messages are
// safe to print on a terminal, names in listings are single path elements, and a
// download never leaves its target. What a file contains is up to you.
package client
