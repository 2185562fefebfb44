package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile bounds what is read of a file that should hold one key.
const maxKeyFile = 64 << 10

// readPublicKey reads the one public key of a file, or of stdin for "-".
func (a *app) readPublicKey(path string) (ssh.PublicKey, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = io.ReadAll(io.LimitReader(a.stdin, maxKeyFile))
	} else {
		text, err = readKeyFile(path)
	}
	if err != nil {
		return nil, err
	}
	return parsePublicKey(path, text)
}

func readKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxKeyFile))
}

// parsePublicKey parses text that holds one public key, and says what it is
// where people are known to err.
func parsePublicKey(name string, text []byte) (ssh.PublicKey, error) {
	if name == "-" {
		name = "stdin"
	}
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return nil, fmt.Errorf("%s is a private key, which stays where it is; name the public one, usually %s.pub", name, name)
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: there is no public key in it, a line such as \"ssh-ed25519 AAAA…\"", name)
	}
	if len(options) > 0 {
		return nil, fmt.Errorf("%s: the key has options in front of it; use --permit and --command instead", name)
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey(rest); err == nil {
		return nil, fmt.Errorf("%s: there are several keys in it; a grant is for one", name)
	}
	return key, nil
}
