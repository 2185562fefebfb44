//go:build linux

// Package agent serves guestd's gRPC API: it translates the wire contract of
// proto/guestd/v1 to packages proc and fsops, and holds what belongs to a
// connection. It starts no process and opens no file by itself.
//
// A program makes one [Server] with [New], gives it any number of listeners
// with [Server.Serve], and ends it with [Server.Shutdown] or [Server.Close].
// Who may connect is the listener's business (package vsock checks the peer);
// what a connected host may call is [Config].Allow.
//
// Handlers return errors of the domain packages as they are; status.go alone
// turns them into status codes and error details, at the edge of every call.
package agent
