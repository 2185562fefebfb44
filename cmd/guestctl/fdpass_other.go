//go:build !unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// canPassConnections says that ssh-proxy --fdpass works here.
const canPassConnections = false

func passConnection(*os.File, syscall.Conn) error { return errors.ErrUnsupported }
