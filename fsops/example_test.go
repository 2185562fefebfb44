//go:build linux

package fsops_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"

	"github.com/guestd/guestd/fsops"
)

// A file is replaced at once or not at all, and only if it is what the sender
// meant.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	system, err := fsops.New(fsops.Config{})
	if err != nil {
		log.Fatal(err)
	}
	files, err := system.AsUser("", dir)
	if err != nil {
		log.Fatal(err)
	}

	w, err := files.NewWriter(ctx, "notes.txt", fsops.WriteOptions{Checksum: fsops.CRC32C})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = w.Abort() }() // nothing, once committed
	if _, err := io.WriteString(w, "hello\n"); err != nil {
		log.Fatal(err)
	}
	_, err = files.Stat(ctx, "notes.txt")
	fmt.Println("there before Commit:", !errors.Is(err, fs.ErrNotExist))
	result, err := w.Commit(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d bytes, %x\n", result.Info.Name, result.Info.Size, result.Sum)
	// Output:
	// there before Commit: false
	// notes.txt: 6 bytes, 353dd8be
}

// Entries come in batches, each directory before what is in it.
func ExampleFS_Walk() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	system, err := fsops.New(fsops.Config{})
	if err != nil {
		log.Fatal(err)
	}
	files, err := system.Own(dir)
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range []string{"src/pkg", "src/.git"} {
		if err := files.MkdirAll(ctx, path, 0o755); err != nil {
			log.Fatal(err)
		}
	}
	err = files.Walk(ctx, "src", fsops.WalkOptions{Exclude: []string{".git"}}, func(batch []fsops.WalkEntry) error {
		for _, entry := range batch {
			fmt.Println(entry.Depth, entry.Path)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 .
	// 1 pkg
}
