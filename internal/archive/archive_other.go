//go:build !linux && !darwin

package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// Pack is not implemented on this system.
func Pack(context.Context, io.Writer, string, PackOptions) (Summary, error) {
	return Summary{}, unsupported()
}

// Unpack is not implemented on this system.
func Unpack(context.Context, io.Reader, string, UnpackOptions) (Summary, error) {
	return Summary{}, unsupported()
}

func unsupported() error {
	return fmt.Errorf("archives on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
