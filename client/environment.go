package client

import (
	"context"
	"fmt"
	"unicode/utf8"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// EnvironmentChange is a change of the sandbox-wide environment, made in one
// step in the order of the fields.
type EnvironmentChange struct {
	Clear bool              // remove every variable
	Unset []string          // remove these
	Set   map[string]string // set these; UTF-8 only
}

// Environment returns the sandbox-wide environment, which every process that is
// started later gets under the variables of its own Spec.
func (c *Client) Environment(ctx context.Context) (map[string]string, error) {
	response, err := c.process.GetEnvironment(ctx, &guestdv1.GetEnvironmentRequest{})
	if err != nil {
		return nil, c.mapError("get environment", "", err)
	}
	return response.GetEnv(), nil
}

// UpdateEnvironment changes the sandbox-wide environment and returns it as it is
// after that. Processes that run already keep theirs.
func (c *Client) UpdateEnvironment(ctx context.Context, change EnvironmentChange) (map[string]string, error) {
	for name, value := range change.Set {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("%w: environment variable %q is not UTF-8", ErrInvalidRequest, name)
		}
	}
	for _, name := range change.Unset {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("%w: environment variable %q is not UTF-8", ErrInvalidRequest, name)
		}
	}
	response, err := c.process.UpdateEnvironment(ctx, &guestdv1.UpdateEnvironmentRequest{
		Clear: change.Clear,
		Unset: change.Unset,
		Set:   change.Set,
	})
	if err != nil {
		return nil, c.mapError("update environment", "", err)
	}
	return response.GetEnv(), nil
}
