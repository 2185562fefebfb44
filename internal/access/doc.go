//go:build linux

// Package access decides who may come in over SSH, and keeps account of who
// came and what they did.
//
// A [Store] holds the grants that the host made and the connections that came
// of them. It is all that the two servers of the agent share: gRPC fills and
// reads it, SSH asks it. It knows neither protobuf nor the SSH protocol, only
// what its keys look like.
//
// Nothing of it is ever on disk: a restarted agent has no grants, no
// connections and another host key, so that whoever copies the disk or the
// image of a machine gets no credential with it.
//
// # A connection's life
//
//	conn, err := store.Connect(peer)              // counted, in handshake
//	defer conn.Close()
//	err = conn.OfferKey(user, blob)                // a query; consumes nothing
//	grant, err := conn.AuthenticateKey(user, blob) // signature verified: consumes
//	conn.Record(access.Event{...})                // what it does
//	<-conn.Context().Done()                       // revoked, killed, shut down
//
// Time is CLOCK_BOOTTIME throughout, which no change of the clock moves and
// which goes on while the machine is suspended. It stands still where a VMM stops
// the clocks of a machine that it pauses: of that the machine cannot know.
package access
