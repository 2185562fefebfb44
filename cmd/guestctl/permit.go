package main

import (
	"strings"

	"github.com/guestd/guestd/client"
)

// permissionNames are the words of --permit.
func permissionNames() []string {
	return []string{"pty", "shell", "exec", "sftp", "agent", "local-tcp", "remote-tcp", "local-unix", "remote-unix"}
}

// parsePermissions reads the values of --permit; without any everything is
// permitted, which is nil.
func parsePermissions(values []string) (*client.SSHPermissions, error) {
	if len(values) == 0 {
		return nil, nil //nolint:nilnil // as the contract of client.Grant has it
	}
	var p client.SSHPermissions
	unrestricted := make(map[*client.SSHForwarding]bool)
	for word := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, target, restricted := strings.Cut(strings.TrimSpace(word), "=")
		plain, forwarding := permission(&p, name)
		switch {
		case plain != nil && !restricted:
			*plain = true
		case forwarding != nil && restricted && target == "":
			return nil, usagef("--permit: %s= names nothing", name)
		case forwarding != nil:
			forwarding.Allowed = true
			if restricted {
				forwarding.Targets = append(forwarding.Targets, target)
			} else {
				unrestricted[forwarding] = true
			}
		case plain != nil:
			return nil, usagef("--permit: %s takes no target", name)
		default:
			return nil, usagef("--permit: %q is none of %s", name, strings.Join(permissionNames(), ", "))
		}
	}
	for forwarding := range unrestricted {
		forwarding.Targets = nil
	}
	return &p, nil
}

// permission is the field that a word names; both are nil if there is none.
func permission(p *client.SSHPermissions, name string) (*bool, *client.SSHForwarding) {
	switch name {
	case "pty":
		return &p.PTY, nil
	case "shell":
		return &p.Shell, nil
	case "exec":
		return &p.Exec, nil
	case "sftp":
		return &p.SFTP, nil
	case "agent":
		return &p.Agent, nil
	case "local-tcp":
		return nil, &p.LocalTCP
	case "remote-tcp":
		return nil, &p.RemoteTCP
	case "local-unix":
		return nil, &p.LocalUnix
	case "remote-unix":
		return nil, &p.RemoteUnix
	}
	return nil, nil
}

// permissionWords is p in the words of --permit.
func permissionWords(p *client.SSHPermissions) []string {
	words := []string{}
	for _, name := range permissionNames() {
		plain, forwarding := permission(p, name)
		switch {
		case plain != nil && *plain:
			words = append(words, name)
		case forwarding != nil && forwarding.Allowed && len(forwarding.Targets) == 0:
			words = append(words, name)
		case forwarding != nil && forwarding.Allowed:
			for _, target := range forwarding.Targets {
				words = append(words, name+"="+target)
			}
		}
	}
	return words
}
