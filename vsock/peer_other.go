//go:build !linux && !darwin

package vsock

import "errors"

func peerCredentials(int) (Peer, error) { return Peer{}, errors.ErrUnsupported }
