package vsock

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWaitForDevice(t *testing.T) {
	missing := []error{syscall.EAFNOSUPPORT, syscall.ENODEV, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	want, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	attempts := 0
	got, err := waitForDevice(t.Context(), logger, func() (net.Listener, error) {
		if attempts++; attempts <= len(missing) {
			return nil, missing[attempts-1]
		}
		return want, nil
	})
	if err != nil || got != want || attempts != len(missing)+1 {
		t.Errorf("%v, %v after %d attempts", got, err, attempts)
	}
	if n := strings.Count(log.String(), "waiting for AF_VSOCK"); n != 1 {
		t.Errorf("%d lines logged:\n%s", n, &log)
	}
}

func TestWaitForDeviceGivesUp(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	for _, final := range []error{syscall.EADDRINUSE, syscall.EACCES, errors.ErrUnsupported} {
		attempts := 0
		_, err := waitForDevice(t.Context(), logger, func() (net.Listener, error) {
			attempts++
			return nil, final
		})
		if !errors.Is(err, final) || attempts != 1 {
			t.Errorf("%v: %v after %d attempts", final, err, attempts)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := waitForDevice(ctx, logger, func() (net.Listener, error) { return nil, syscall.ENODEV })
	if !errors.Is(err, syscall.ENODEV) || ctx.Err() == nil {
		t.Errorf("%v, want what was missing, after the context's end", err)
	}
}
