package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/vsock"
)

// doorVariable is the environment's variable for the SSH server's address.
const doorVariable = "GUESTD_SSH"

// doorPort is the vsock port that guestd serves SSH on.
const doorPort = 22

// doorHelp is said by the commands that come in over SSH.
const doorHelp = `The SSH server is at port 22 of the guest whose agent is named, if that is vsock: or
hybrid:. Another one is named by --ssh-address or GUESTD_SSH, in the same forms; for
an agent at unix:PATH that is required.`

// sshDoor is the SSH server of a guest.
type sshDoor struct {
	address vsock.Addr
	name    string // by which ssh knows the guest: no other guest of this host has it
}

// doorFlag is --ssh-address.
func doorFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "ssh-address", "", "`address` of the guest's SSH server (default $"+doorVariable+", or port 22 of the agent's guest)")
}

// door finds the SSH server of the agent that the command line names.
func (a *app) door(text string) (sshDoor, error) {
	if text == "" {
		text = a.env(doorVariable)
	}
	if text == "" {
		return a.doorBesideAgent()
	}
	address, err := vsock.ParseAddr(text)
	if err != nil {
		return sshDoor{}, usageError{fmt.Errorf("SSH server's %w (see 'guestctl help addresses')", err)}
	}
	return newDoor(address)
}

func (a *app) doorBesideAgent() (sshDoor, error) {
	address, err := a.agentAddress()
	if err != nil {
		return sshDoor{}, err
	}
	if address.Transport == vsock.Unix {
		return sshDoor{}, usagef("the agent at %s does not tell where its SSH server is; give --ssh-address or set %s", address, doorVariable)
	}
	address.Port = doorPort
	return newDoor(address)
}

// newDoor makes the address one that is right in any directory.
func newDoor(address vsock.Addr) (sshDoor, error) {
	if address.Path != "" {
		path, err := filepath.Abs(address.Path)
		if err != nil {
			return sshDoor{}, err
		}
		address.Path = path
	}
	return sshDoor{address: address, name: guestName(address)}, nil
}

// guestName makes an address a name for people that is one for ssh, too: to
// share connections ssh has to tell guests apart by it.
func guestName(address vsock.Addr) string {
	label := "cid" + strconv.FormatUint(uint64(address.CID), 10)
	if address.Transport != vsock.VM {
		base := filepath.Base(address.Path)
		label = strings.TrimSuffix(base, filepath.Ext(base))
	}
	label = strings.Map(func(r rune) rune {
		if r == '-' || isAlphanumeric(r) {
			return r
		}
		return -1
	}, label)
	const most = 32
	label = strings.Trim(label[:min(len(label), most)], "-")
	if label == "" {
		label = "guest"
	}
	sum := sha256.Sum256([]byte(address.String()))
	return label + "-" + hex.EncodeToString(sum[:4])
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// sshOption is an option of ssh_config(5).
type sshOption struct{ name, value string }

// options have ssh come to this door, and trust and show nothing but what is in
// the files. OpenSSH takes the connection over from its proxy, which saves a copy
// of every byte; others that read its configuration cannot.
func (d *sshDoor) options(files *sshFiles, openSSH bool) ([]sshOption, error) {
	guestctl, err := os.Executable()
	if err != nil {
		return nil, err
	}
	proxy, pass := shellQuote(guestctl)+" ssh-proxy ", "no"
	if openSSH && canPassConnections {
		proxy, pass = proxy+"--fdpass ", "yes"
	}
	proxy += shellQuote(d.address.String())
	if strings.ContainsAny(proxy, "\n\r\x00") {
		return nil, fmt.Errorf("a path with the end of a line in it cannot be passed to ssh: %q", proxy)
	}
	key, err := sshPath(files.key)
	if err != nil {
		return nil, err
	}
	knownHosts, err := sshPath(files.knownHosts)
	if err != nil {
		return nil, err
	}
	return []sshOption{
		{"ProxyCommand", strings.ReplaceAll(proxy, "%", "%%")},
		{"ProxyUseFdpass", pass},
		{"HostKeyAlias", files.alias},
		{"StrictHostKeyChecking", "yes"},
		{"UserKnownHostsFile", knownHosts},
		{"GlobalKnownHostsFile", "/dev/null"},
		{"UpdateHostKeys", "no"},
		{"CheckHostIP", "no"},
		{"IdentityFile", key},
		{"IdentitiesOnly", "yes"},
		{"AddKeysToAgent", "no"},
		{"PreferredAuthentications", "publickey"},
	}, nil
}

// sshPath is a path as a value of ssh_config(5), where quotes, backslashes and
// dollars have meanings that differ between versions.
func sshPath(path string) (string, error) {
	if strings.ContainsAny(path, "\"\\$\n\r\x00") {
		return "", fmt.Errorf("the path %q cannot be passed to ssh", path)
	}
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`, nil
}

// shellQuote is a word for a shell.
func shellQuote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
