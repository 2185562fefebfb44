package vsock

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// A Transport is a way to reach the other side, and the first part of an
// address.
type Transport string

// The transports.
const (
	VM     Transport = "vsock"  // AF_VSOCK: CID and Port
	Hybrid Transport = "hybrid" // a VMM's unix socket: Path and Port
	Unix   Transport = "unix"   // a unix socket: Path
)

// Context ids with a meaning of their own, from vsock(7).
const (
	CIDHypervisor uint32 = 0          // the hypervisor itself; nothing of ours listens there
	CIDLocal      uint32 = 1          // this machine, where vsock_loopback is loaded
	CIDHost       uint32 = 2          // the host, seen from a guest
	CIDAny        uint32 = 0xffffffff // listen only: whatever the local id is or becomes
)

// portAny is VMADDR_PORT_ANY, which is no port.
const portAny uint32 = 0xffffffff

// maxSocketPath is the longest path that fits into a sockaddr_un with its
// terminating zero byte.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// An Addr is an address on one of the transports. It is comparable; the zero
// Addr is not an address. It implements [net.Addr], and *Addr implements
// [flag.Value], pflag.Value and [encoding.TextUnmarshaler].
type Addr struct {
	Transport Transport
	CID       uint32 // VM only
	Port      uint32 // VM and Hybrid. 0 listens on a free port (VM only)
	Path      string // Hybrid and Unix. Empty for the unnamed end of a unix socket
}

// ParseAddr reads the forms of the package comment. For a CID it takes a
// number or a name: "host" (2), "local" (1), "any" or nothing (CIDAny). A path
// may be relative and may contain colons. Abstract unix sockets are refused:
// they have neither owner nor mode. The error is a [*net.AddrError] that holds s.
func ParseAddr(s string) (Addr, error) {
	a, err := parse(s)
	if err == nil {
		err = a.validate()
	}
	if err != nil {
		return Addr{}, &net.AddrError{Err: err.Error(), Addr: s}
	}
	return a, nil
}

func parse(s string) (Addr, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch Transport(scheme) {
	case VM:
		cid, port, ok := strings.Cut(rest, ":")
		if !ok {
			return Addr{}, errors.New("no port: want vsock:CID:PORT, or vsock::PORT to listen")
		}
		return parseVM(cid, port)
	case Hybrid:
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return Addr{}, errors.New("no port: want hybrid:PATH:PORT")
		}
		port, err := parseNumber("port", rest[i+1:])
		return Addr{Transport: Hybrid, Path: rest[:i], Port: port}, err
	case Unix:
		return Addr{Transport: Unix, Path: rest}, nil
	default:
		return Addr{}, errors.New("want vsock:CID:PORT, hybrid:PATH:PORT or unix:PATH")
	}
}

func parseVM(cid, port string) (Addr, error) {
	a := Addr{Transport: VM}
	var err error
	switch cid {
	case "", "any":
		a.CID = CIDAny
	case "local":
		a.CID = CIDLocal
	case "host":
		a.CID = CIDHost
	default:
		if a.CID, err = parseNumber("CID", cid); err != nil {
			return Addr{}, err
		}
	}
	a.Port, err = parseNumber("port", port)
	return a, err
}

func parseNumber(what, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a number from 0 to 4294967295", what, s)
	}
	return uint32(n), nil
}

// validate reports what makes a useless for both Listen and Dial; an Addr may
// have been filled in by hand.
func (a Addr) validate() error {
	switch a.Transport {
	case VM:
		if a.Port == portAny {
			return errors.New("port 4294967295 is reserved")
		}
		return nil
	case Hybrid:
		if a.Port == 0 || a.Port == portAny {
			return fmt.Errorf("port %d is not a guest port", a.Port)
		}
		return checkPath(a.Path)
	case Unix:
		return checkPath(a.Path)
	default:
		return fmt.Errorf("no transport %q", string(a.Transport))
	}
}

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("no path")
	case path[0] == '@':
		return errors.New("abstract sockets have no owner and no mode: use a path")
	case strings.IndexByte(path, 0) >= 0:
		return errors.New("NUL in path")
	case len(path) > maxSocketPath:
		return fmt.Errorf("path of %d bytes, a socket's may have %d", len(path), maxSocketPath)
	default:
		return nil
	}
}

// Network returns the transport: "vsock", "hybrid" or "unix".
func (a Addr) Network() string { return string(a.Transport) }

// String returns the address in the form which [ParseAddr] reads, with numbers
// for names; CIDAny is left out. The zero Addr gives "".
func (a Addr) String() string {
	switch a.Transport {
	case VM:
		if a.CID == CIDAny {
			return fmt.Sprintf("vsock::%d", a.Port)
		}
		return fmt.Sprintf("vsock:%d:%d", a.CID, a.Port)
	case Hybrid:
		return fmt.Sprintf("hybrid:%s:%d", a.Path, a.Port)
	case Unix:
		return "unix:" + a.Path
	default:
		return ""
	}
}

// IsZero reports whether a is not an address at all.
func (a Addr) IsZero() bool { return a == Addr{} }

// Set is [ParseAddr] for package flag and pflag. It leaves a alone on error.
func (a *Addr) Set(s string) error {
	parsed, err := ParseAddr(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// Type names the value in pflag's usage text.
func (*Addr) Type() string { return "address" }

// UnmarshalText is [Addr.Set] for configuration files.
func (a *Addr) UnmarshalText(text []byte) error { return a.Set(string(text)) }

// MarshalText returns [Addr.String].
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// callbackPath is the socket file to which a VMM connects when its guest dials
// port a.Port of the host. Only for Hybrid.
func (a Addr) callbackPath() string {
	return a.Path + "_" + strconv.FormatUint(uint64(a.Port), 10)
}

// opError is the one shape of this package's errors. What an inner OpError
// wraps moves up: its addresses are those of the library below.
func opError(op string, a Addr, err error) error {
	var inner *net.OpError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &net.OpError{Op: op, Addr: a, Err: err}
}
