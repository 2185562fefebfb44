//go:build linux

package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// accessAgent is an agent with a store, which stands for the SSH server too.
type accessAgent struct {
	guestdv1.AccessServiceClient
	*testAgent
	store *access.Store
}

func serveAccess(t testing.TB) *accessAgent {
	t.Helper()
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	a := serve(t, Config{Access: store})
	return &accessAgent{guestdv1.NewAccessServiceClient(a.conn), a, store}
}

// newUserKey is a key and its line of authorized_keys.
func newUserKey(t testing.TB) (blob []byte, line string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key.Marshal(), authorizedKey(key)
}

func keyGrant(line string) *guestdv1.Grant {
	return &guestdv1.Grant{Credential: &guestdv1.Grant_AuthorizedKey{AuthorizedKey: line}}
}

func (a *accessAgent) grant(t testing.TB, g *guestdv1.Grant) *guestdv1.CreateGrantResponse {
	t.Helper()
	resp, err := a.CreateGrant(testContext(t), &guestdv1.CreateGrantRequest{Grant: g})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// enter lets a connection in by a key.
func (a *accessAgent) enter(t testing.TB, user string, key []byte) (*access.Connection, access.Grant) {
	t.Helper()
	c, err := a.store.Connect("vsock 2:1234")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	g, err := c.AuthenticateKey(user, key)
	if err != nil {
		t.Fatal(err)
	}
	return c, g
}

func TestAccessWithoutSSH(t *testing.T) {
	a := serve(t, Config{})
	c, ctx := guestdv1.NewAccessServiceClient(a.conn), testContext(t)
	calls := map[string]func() error{
		"CreateGrant":  func() error { _, err := c.CreateGrant(ctx, &guestdv1.CreateGrantRequest{}); return err },
		"RevokeGrant":  func() error { _, err := c.RevokeGrant(ctx, &guestdv1.RevokeGrantRequest{}); return err },
		"ListGrants":   func() error { _, err := c.ListGrants(ctx, &guestdv1.ListGrantsRequest{}); return err },
		"ListSessions": func() error { _, err := c.ListSessions(ctx, &guestdv1.ListSessionsRequest{}); return err },
		"KillSession":  func() error { _, err := c.KillSession(ctx, &guestdv1.KillSessionRequest{}); return err },
		"GetHostKey":   func() error { _, err := c.GetHostKey(ctx, &guestdv1.GetHostKeyRequest{}); return err },
		"WatchSessions": func() error {
			stream, err := c.WatchSessions(ctx, &guestdv1.WatchSessionsRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			wantFailure(t, call(), codes.Unimplemented, guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED)
		})
	}
	info, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{})
	if err != nil || len(info.GetCapabilities().GetFeatures()) != 0 {
		t.Errorf("features are %v, %v", info.GetCapabilities().GetFeatures(), err)
	}
}

func TestGrantReachesTheDoor(t *testing.T) {
	a := serveAccess(t)
	blob, line := newUserKey(t)
	asked := keyGrant("  " + line + " ann@laptop\n")
	asked.Id, asked.User, asked.Label, asked.Command = "g", "ann", "laptop", "make test"
	asked.Ttl, asked.MaxConnections = durationpb.New(time.Hour), 3
	asked.Env, asked.RawEnv = map[string]string{"A": "1", "B": "2"}, map[string][]byte{"B": {0xff}}
	asked.ClientAddress = "[2001:db8::1]:4711"
	asked.Permissions = &guestdv1.GrantPermissions{
		Exec: true, LocalTcp: &guestdv1.ForwardPermission{}, RemoteUnix: &guestdv1.ForwardPermission{Targets: []string{"/tmp/*"}},
	}
	resp := a.grant(t, asked)
	info := resp.Grant
	if info.Id != "g" || info.User != "ann" || info.Label != "laptop" || info.MaxConnections != 3 || info.KeyType != "ssh-ed25519" ||
		info.Command != "make test" || info.ClientAddress != asked.ClientAddress || !proto.Equal(info.Permissions, asked.Permissions) {
		t.Errorf("granted: %v", info)
	}
	if life := info.ExpireTime.AsTime().Sub(info.CreateTime.AsTime()); life != time.Hour {
		t.Errorf("it lives for %v", life)
	}

	_, got := a.enter(t, "ann", blob)
	if strings.Join(got.Env, "|") != "A=1|B=\xff" || got.Command != "make test" || got.Client.Port() != 4711 ||
		!got.Permissions.LocalTCP.PermitsTCP("x", 1) || got.Permissions.LocalUnix.Allowed || got.Permissions.Shell {
		t.Errorf("the SSH server is told %+v", got)
	}
	if again := a.grant(t, asked); again.Grant.UsedConnections != 1 || again.Grant.LiveConnections != 1 {
		t.Errorf("the same again: %v", again.Grant)
	}
	list, err := a.ListGrants(testContext(t), &guestdv1.ListGrantsRequest{})
	if err != nil || len(list.Grants) != 1 || list.Grants[0].Id != "g" {
		t.Errorf("grants: %v, %v", list, err)
	}

	key, err := a.GetHostKey(testContext(t), &guestdv1.GetHostKeyRequest{})
	if err != nil || !proto.Equal(key.HostKey, resp.HostKey) {
		t.Fatalf("host key %v and %v, %v", key, resp.HostKey, err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.HostKey.AuthorizedKey))
	if err != nil || ssh.FingerprintSHA256(public) != key.HostKey.Fingerprint || key.HostKey.Algorithm != "ssh-ed25519" {
		t.Errorf("host key %v, %v", key, err)
	}
}

func TestGrantDefaultsOnTheWire(t *testing.T) {
	a := serveAccess(t)
	_, line := newUserKey(t)
	info := a.grant(t, keyGrant(line)).Grant
	if info.Id == "" || info.MaxConnections != 1 || info.ExpireTime == nil || !info.Permissions.Shell || info.Permissions.RemoteTcp == nil {
		t.Errorf("granted: %v", info)
	}
	sum := sha256.Sum256([]byte("secret"))
	info = a.grant(t, &guestdv1.Grant{
		Credential: &guestdv1.Grant_SecretSha256{SecretSha256: sum[:]}, NoExpiry: true, UnlimitedConnections: true,
	}).Grant
	if info.MaxConnections != 0 || info.ExpireTime != nil || info.Fingerprint != "" {
		t.Errorf("granted: %v", info)
	}
	c, err := a.store.Connect("")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.AuthenticateSecret("secret"); err != nil {
		t.Error(err)
	}
}

func TestGrantErrors(t *testing.T) {
	a := serveAccess(t)
	_, line := newUserKey(t)
	_, other := newUserKey(t)
	taken := keyGrant(line)
	taken.Id = "taken"
	a.grant(t, taken)
	invalid, exists := guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	grant := func(change func(*guestdv1.Grant)) *guestdv1.Grant {
		g := keyGrant(other)
		change(g)
		return g
	}
	for _, test := range []struct {
		name string
		g    *guestdv1.Grant
		code codes.Code
		why  guestdv1.ErrorReason
		text string // the message begins with it
	}{
		{"nothing", nil, codes.InvalidArgument, invalid, "grant: "},
		{"no credential", &guestdv1.Grant{}, codes.InvalidArgument, invalid, "grant.authorized_key: "},
		{"garbage", keyGrant("ssh-ed25519 nonsense"), codes.InvalidArgument, invalid, "grant.authorized_key: "},
		{"options", keyGrant(`command="date" ` + other), codes.InvalidArgument, invalid, "grant.authorized_key: has options"},
		{"two lines", keyGrant(other + "\n" + line), codes.InvalidArgument, invalid, "grant.authorized_key: is more"},
		{"short hash", &guestdv1.Grant{Credential: &guestdv1.Grant_SecretSha256{SecretSha256: []byte("x")}}, codes.InvalidArgument, invalid, "grant.secret_sha256: "},
		{"negative life", grant(func(g *guestdv1.Grant) { g.Ttl = durationpb.New(-1) }), codes.InvalidArgument, invalid, "grant.ttl: "},
		{"no life", grant(func(g *guestdv1.Grant) { g.Ttl = durationpb.New(0) }), codes.InvalidArgument, invalid, "grant.ttl: "},
		{"two lives", grant(func(g *guestdv1.Grant) { g.Ttl, g.NoExpiry = durationpb.New(1), true }), codes.InvalidArgument, invalid, "grant.ttl: "},
		{"two bounds", grant(func(g *guestdv1.Grant) { g.MaxConnections, g.UnlimitedConnections = 1, true }), codes.InvalidArgument, invalid, "grant.max_connections: "},
		{"too many", grant(func(g *guestdv1.Grant) { g.MaxConnections = 1 << 31 }), codes.InvalidArgument, invalid, "grant.max_connections: "},
		{"address", grant(func(g *guestdv1.Grant) { g.ClientAddress = "192.0.2.1" }), codes.InvalidArgument, invalid, "grant.client_address: "},
		{"user", grant(func(g *guestdv1.Grant) { g.User = "a/b" }), codes.InvalidArgument, invalid, "grant.user: "},
		{"env", grant(func(g *guestdv1.Grant) { g.Env = map[string]string{"": "x"} }), codes.InvalidArgument, invalid, "grant.env: "},
		{"target", grant(func(g *guestdv1.Grant) {
			g.Permissions = &guestdv1.GrantPermissions{LocalTcp: &guestdv1.ForwardPermission{Targets: []string{"x"}}}
		}), codes.InvalidArgument, invalid, "grant.permissions.local_tcp.targets: "},
		{"id", grant(func(g *guestdv1.Grant) { g.Id = "taken" }), codes.AlreadyExists, exists, ""},
		{"credential", keyGrant(line), codes.AlreadyExists, exists, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := a.CreateGrant(testContext(t), &guestdv1.CreateGrantRequest{Grant: test.g})
			wantFailure(t, err, test.code, test.why)
			if err != nil && !strings.Contains(err.Error(), "desc = "+test.text) {
				t.Errorf("the message does not begin with %q: %v", test.text, err)
			}
		})
	}
}

func TestRevokeAndKill(t *testing.T) {
	a := serveAccess(t)
	ctx := testContext(t)
	blob, line := newUserKey(t)
	g := keyGrant(line)
	g.Id, g.User, g.UnlimitedConnections, g.Label = "g", "ann", true, "laptop"
	a.grant(t, g)
	one, _ := a.enter(t, "ann", blob)
	two, _ := a.enter(t, "ann", blob)
	one.Begin("exec: \xff")
	one.Count(1, 2)

	list, err := a.ListSessions(ctx, &guestdv1.ListSessionsRequest{})
	if err != nil || len(list.Sessions) != 2 {
		t.Fatalf("sessions: %v, %v", list, err)
	}
	s := list.Sessions[0]
	if s.Id != one.ID() || s.GrantId != "g" || s.User != "ann" || s.Label != "laptop" || s.Peer != "vsock 2:1234" ||
		len(s.Activity) != 1 || s.Activity[0] != `exec: \xFF` || s.ReceivedBytes != 1 || s.SentBytes != 2 || s.StartTime == nil {
		t.Errorf("session: %v", s)
	}

	if _, err := a.KillSession(ctx, &guestdv1.KillSessionRequest{Id: one.ID()}); err != nil {
		t.Fatal(err)
	}
	if context.Cause(one.Context()) == nil || context.Cause(two.Context()) != nil {
		t.Error("not just the one session was killed")
	}
	notFound := guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	_, err = a.KillSession(ctx, &guestdv1.KillSessionRequest{Id: "nonsense"})
	wantFailure(t, err, codes.NotFound, notFound)
	_, err = a.RevokeGrant(ctx, &guestdv1.RevokeGrantRequest{Id: "nonsense"})
	wantFailure(t, err, codes.NotFound, notFound)
	_, err = a.RevokeGrant(ctx, &guestdv1.RevokeGrantRequest{})
	wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)

	for range 2 { // the second time is not an error
		revoked, err := a.RevokeGrant(ctx, &guestdv1.RevokeGrantRequest{Id: "g"})
		if err != nil || !revoked.Grant.Revoked || revoked.Grant.LiveConnections != 2 {
			t.Errorf("revoked: %v, %v", revoked, err)
		}
	}
	if context.Cause(two.Context()) == nil {
		t.Error("a session of a revoked grant goes on")
	}
	_, err = a.CreateGrant(ctx, &guestdv1.CreateGrantRequest{Grant: g})
	wantFailure(t, err, codes.AlreadyExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS)
}

// An agent that is started anew knows none of the grants, and has another key.
func TestGrantsDoNotSurviveARestart(t *testing.T) {
	blob, line := newUserKey(t)
	g := keyGrant(line)
	g.NoExpiry, g.UnlimitedConnections = true, true
	before := serveAccess(t).grant(t, g)
	a := serveAccess(t)
	list, err := a.ListGrants(testContext(t), &guestdv1.ListGrantsRequest{})
	if err != nil || len(list.Grants) != 0 {
		t.Errorf("grants: %v, %v", list, err)
	}
	key, err := a.GetHostKey(testContext(t), &guestdv1.GetHostKeyRequest{})
	if err != nil || key.HostKey.AuthorizedKey == before.HostKey.AuthorizedKey {
		t.Errorf("host key: %v, %v", key, err)
	}
	c, err := a.store.Connect("")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.AuthenticateKey(before.Grant.User, blob); err == nil {
		t.Error("a grant of before lets somebody in")
	}
}

func TestAccessInfoAndAllow(t *testing.T) {
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	a := serve(t, Config{Access: store, Allow: []string{"guestd.v1.AccessService/ListSessions"}})
	ctx := testContext(t)
	info, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{})
	if err != nil || strings.Join(info.GetCapabilities().GetFeatures(), " ") != "ssh" {
		t.Errorf("features are %v, %v", info.GetCapabilities().GetFeatures(), err)
	}
	c := guestdv1.NewAccessServiceClient(a.conn)
	if _, err := c.ListSessions(ctx, &guestdv1.ListSessionsRequest{}); err != nil {
		t.Error(err)
	}
	_, line := newUserKey(t)
	_, err = c.CreateGrant(ctx, &guestdv1.CreateGrantRequest{Grant: keyGrant(line)})
	wantFailure(t, err, codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED)
}
