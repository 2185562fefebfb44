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

// keyPair is a key that was made here.
type keyPair struct {
	public  ssh.PublicKey
	comment string
	private []byte // as ssh reads it
}

func newKeyPair(comment string) (*keyPair, error) {
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
	return &keyPair{key, comment, pem.EncodeToMemory(block)}, nil
}

// writeKey writes a key, in place of one that is there.
func (f *sshFiles) writeKey(k *keyPair) error {
	if err := writePrivate(f.key+".pub", []byte(keyLine(k.public)+" "+k.comment+"\n")); err != nil {
		return err
	}
	return writePrivate(f.key, k.private)
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
