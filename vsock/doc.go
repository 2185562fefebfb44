// Package vsock listens and dials on the sockets between a microVM and its
// host. One [Addr] names any of the three transports:
//
//	vsock:CID:PORT      AF_VSOCK of the Linux kernel (listen: vsock::PORT)
//	hybrid:PATH:PORT    the unix socket of a VMM that multiplexes guest ports
//	                    (Firecracker, Cloud Hypervisor, vhost-device-vsock)
//	unix:PATH           an ordinary unix socket, for development and tests
//
// # Which call
//
// A guest serves with [Listen] on vsock::PORT and wraps the listener with
// [HostOnly], because any process inside the guest may dial its own ports. A
// host reaches the guest with [Dial] on vsock:CID:PORT or hybrid:PATH:PORT. A
// host that waits for a guest's dial-out listens on hybrid:PATH:PORT, which is
// the socket file PATH_PORT: there the VMM connects when the guest dials the
// host's port. [PeerOf] says who is at the other end of a connection.
//
// # What every connection keeps
//
// Connections have deadlines, wait in the runtime's poller (no thread each),
// implement [syscall.Conn], and answer LocalAddr and RemoteAddr with an Addr,
// never nil. The peer of a unix socket has no address of its own: its Addr has
// an empty Path. Every error of Dial, Listen and Accept is a [*net.OpError];
// its Net is empty, since the text of its Addr begins with the transport.
//
// # What no caller may rely on
//
// The end of one direction does not cross a VMM's multiplexer: the host's end
// of stream ends both directions, the guest's never arrives. A protocol over
// these sockets says "end" in-band, and where both sides may close, the host
// closes first, because a guest's last bytes may be cut with its connection.
// [CloseWrite] exists for the transports that can, and says where they cannot.
//
// A VMM drops what is written to its socket before it has connected. Dial on a
// hybrid socket therefore returns only after the VMM's OK; a caller that dials
// the socket by itself has to wait for that.
//
// On systems other than Linux the unix and hybrid transports work and AF_VSOCK
// gives an error that wraps [errors.ErrUnsupported].
package vsock
