package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// sshFiles are what ssh is given to read.
type sshFiles struct {
	alias      string // the guest's name in knownHosts
	key        string // path of a private key
	knownHosts string // path of a known_hosts file with the guest's key alone
}

// names of the files in their directory.
const (
	keyName        = "id_ed25519"
	knownHostsName = "known_hosts"
)

// filesIn are the files of a guest in a directory.
func filesIn(dir, alias string) *sshFiles {
	return &sshFiles{alias: alias, key: filepath.Join(dir, keyName), knownHosts: filepath.Join(dir, knownHostsName)}
}

// newKey makes a key and writes it, in place of one that is there.
func (f *sshFiles) newKey(comment string) (ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	if err := writePrivate(f.key+".pub", []byte(keyLine(key)+" "+comment+"\n")); err != nil {
		return nil, err
	}
	return key, writePrivate(f.key, pem.EncodeToMemory(block))
}

// pin writes the one host key that ssh is to trust.
func (f *sshFiles) pin(host ssh.PublicKey) error {
	return writePrivate(f.knownHosts, []byte(f.alias+" "+keyLine(host)+"\n"))
}

// writePrivate writes a file that its owner alone may read, whole or not at all,
// and under whatever umask.
func writePrivate(path string, text []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(text); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
