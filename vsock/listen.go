package vsock

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// DefaultBuffer is the buffer of an AF_VSOCK connection where
// [ListenConfig.Buffer] is zero. The kernel's own default is 256 KiB. It is
// also what is asked for on unix sockets, whatever the limit grants of it.
const DefaultBuffer = 1 << 20

// A ListenConfig holds the options of a listener. The zero ListenConfig is
// ready to use.
type ListenConfig struct {
	// Mode is the permission of a unix socket's file, whatever the umask.
	// Zero means 0600. Who may write to the file may connect.
	Mode fs.FileMode

	// Buffer is how many bytes of one AF_VSOCK connection the kernel keeps
	// for a reader that lags. Zero means DefaultBuffer, negative leaves the
	// kernel's default.
	Buffer int

	// WaitForDevice makes Listen on AF_VSOCK wait, until its context is done,
	// for a transport that is not there yet: modules load late at boot.
	WaitForDevice bool

	// Logger gets a line when Listen begins to wait for a device, and one
	// every ten seconds while it waits. Nil discards.
	Logger *slog.Logger
}

// Listen listens on a with the zero [ListenConfig].
func Listen(ctx context.Context, a Addr) (net.Listener, error) {
	return ListenConfig{}.Listen(ctx, a)
}

// Listen listens on a. The context bounds only the call. The caller closes the
// listener, which leaves accepted connections open. Addr of the listener is an
// [Addr]. Accept's connections are as the package comment says; who may
// connect is not checked here but by [HostOnly].
//
// On AF_VSOCK the local CID is not looked at: a.CID should be CIDAny, since a
// snapshot's clone has another one. Port 0 takes a free port.
//
// On unix:PATH the socket file is made with the asked-for mode before anybody
// can connect, and removed by Close unless another file has taken its place. A
// socket file which is there already is replaced if it is ours and nobody
// listens on it. On hybrid:PATH:PORT the same holds for the file PATH_PORT.
//
// The error is a [*net.OpError] that wraps syscall.EADDRINUSE when somebody
// listens on a already, and errors.ErrUnsupported where there is no AF_VSOCK.
func (lc ListenConfig) Listen(ctx context.Context, a Addr) (net.Listener, error) {
	l, err := lc.listen(ctx, a)
	if err != nil {
		return nil, opError("listen", a, err)
	}
	return l, nil
}

func (lc ListenConfig) listen(ctx context.Context, a Addr) (net.Listener, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	if lc.Mode == 0 {
		lc.Mode = 0o600
	}
	if lc.Buffer == 0 {
		lc.Buffer = DefaultBuffer
	}
	if lc.Logger == nil {
		lc.Logger = slog.New(slog.DiscardHandler)
	}
	switch a.Transport {
	case VM:
		attempt := func() (net.Listener, error) { return listenVM(a, lc.Buffer) }
		if !lc.WaitForDevice {
			return attempt()
		}
		return waitForDevice(ctx, lc.Logger.With("address", a), attempt)
	case Hybrid:
		return listenFile(ctx, a, a.callbackPath(), lc.Mode)
	default:
		return listenFile(ctx, a, a.Path, lc.Mode)
	}
}

// waitForDevice repeats attempt until it succeeds, fails for good, or ctx is
// done. The error is then attempt's last one: it says what was missing.
func waitForDevice(ctx context.Context, logger *slog.Logger, attempt func() (net.Listener, error)) (net.Listener, error) {
	const (
		longest  = 500 * time.Millisecond
		logEvery = 10 * time.Second
	)
	var logged time.Time
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, longest) {
		l, err := attempt()
		if err == nil || !deviceMissing(err) {
			return l, err
		}
		if time.Since(logged) >= logEvery {
			logged = time.Now()
			logger.Warn("waiting for AF_VSOCK: is the transport's module loaded?", "error", err)
		}
		if sleep(ctx, pause) != nil {
			return nil, err
		}
	}
}

// deviceMissing reports whether err is what socket(2) and bind(2) say of
// AF_VSOCK while its modules are not there or still start.
func deviceMissing(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
