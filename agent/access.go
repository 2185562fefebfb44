//go:build linux

package agent

import (
	"context"
	"fmt"

	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// featureSSH is the name in Capabilities.features of an agent with an SSH
// server.
const featureSSH = "ssh"

// errNoAccess answers every call of AccessService where there is nobody to let
// in.
var errNoAccess error = &callError{
	reason: guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED,
	text:   "the agent was started without --ssh",
}

// accessService is AccessService on top of an access.Store. Grants are
// translated in access_grant.go, WatchSessions is in access_watch.go.
type accessService struct {
	guestdv1.UnimplementedAccessServiceServer

	store *access.Store // nil without an SSH server: then no method is called
}

// available is asked before every method.
func (s *accessService) available() error {
	if s.store == nil {
		return errNoAccess
	}
	return nil
}

// CreateGrant lets the holder of a credential in.
func (s *accessService) CreateGrant(_ context.Context, req *guestdv1.CreateGrantRequest) (*guestdv1.CreateGrantResponse, error) {
	grant, err := grantOf(req.Grant)
	if err != nil {
		return nil, err
	}
	info, err := s.store.Grant(grant)
	if err != nil {
		return nil, grantError(err)
	}
	key, err := s.hostKey()
	if err != nil {
		return nil, err
	}
	return &guestdv1.CreateGrantResponse{Grant: grantMessage(info), HostKey: key}, nil
}

// RevokeGrant takes a grant away and ends its sessions.
func (s *accessService) RevokeGrant(_ context.Context, req *guestdv1.RevokeGrantRequest) (*guestdv1.RevokeGrantResponse, error) {
	if req.Id == "" {
		return nil, invalidRequest("id: is missing")
	}
	info, err := s.store.Revoke(req.Id)
	if err != nil {
		return nil, fmt.Errorf("grant %s: %w", req.Id, err)
	}
	return &guestdv1.RevokeGrantResponse{Grant: grantMessage(info)}, nil
}

// ListGrants describes the grants.
func (s *accessService) ListGrants(context.Context, *guestdv1.ListGrantsRequest) (*guestdv1.ListGrantsResponse, error) {
	list := s.store.Grants()
	resp := &guestdv1.ListGrantsResponse{Grants: make([]*guestdv1.GrantInfo, len(list))}
	for i, info := range list {
		resp.Grants[i] = grantMessage(info)
	}
	return resp, nil
}

// ListSessions describes the connections that are in.
func (s *accessService) ListSessions(context.Context, *guestdv1.ListSessionsRequest) (*guestdv1.ListSessionsResponse, error) {
	list := s.store.Connections()
	resp := &guestdv1.ListSessionsResponse{Sessions: make([]*guestdv1.Session, len(list))}
	for i, c := range list {
		m := &guestdv1.Session{
			Id: c.ID, GrantId: c.Grant, Label: c.Label, User: c.User,
			ClientAddress: addressText(c.Client), Peer: readable(c.Peer),
			StartTime: timestamppb.New(c.Since), ReceivedBytes: c.Received, SentBytes: c.Sent,
		}
		for _, what := range c.Activity {
			m.Activity = append(m.Activity, readableName(what))
		}
		resp.Sessions[i] = m
	}
	return resp, nil
}

// KillSession ends a connection.
func (s *accessService) KillSession(_ context.Context, req *guestdv1.KillSessionRequest) (*guestdv1.KillSessionResponse, error) {
	if req.Id == "" {
		return nil, invalidRequest("id: is missing")
	}
	if err := s.store.Kill(req.Id); err != nil {
		return nil, fmt.Errorf("session %s: %w", req.Id, err)
	}
	return &guestdv1.KillSessionResponse{}, nil
}

// GetHostKey returns the SSH server's key.
func (s *accessService) GetHostKey(context.Context, *guestdv1.GetHostKeyRequest) (*guestdv1.GetHostKeyResponse, error) {
	key, err := s.hostKey()
	if err != nil {
		return nil, err
	}
	return &guestdv1.GetHostKeyResponse{HostKey: key}, nil
}

// hostKey describes the public half of the store's host key.
func (s *accessService) hostKey() (*guestdv1.HostKey, error) {
	key, err := ssh.NewPublicKey(s.store.HostKey().Public())
	if err != nil {
		return nil, err
	}
	return &guestdv1.HostKey{
		AuthorizedKey: authorizedKey(key), Fingerprint: ssh.FingerprintSHA256(key), Algorithm: key.Type(),
	}, nil
}
