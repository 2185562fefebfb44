package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// input is standard input for a program in the guest. The program only sees it
// end where it cannot be read on: the error stays here, to be told.
type input struct {
	r io.Reader

	mu  sync.Mutex
	err error
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	// nohup makes stdin one that cannot be read, and means that there is none.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EBADF) {
		i.mu.Lock()
		i.err = fmt.Errorf("the program's input ended early: %w", err)
		i.mu.Unlock()
	}
	return n, err
}

// failure is the error of a Read, if there was one. A nil input has none.
func (i *input) failure() error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}
