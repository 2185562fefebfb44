//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd"
)

// TestPairGuestd compares guestd with OpenSSH's server: the same commands leave
// the same outcome. Each difference is a fault or a line in docs/ssh.md.
func TestPairGuestd(t *testing.T) {
	if testing.Short() {
		t.Skip("runs each case twice")
	}
	lab := newPairLab(t)
	stock, guestd := lab.stock(t), lab.guestd(t)
	for _, c := range pairCases {
		t.Run(c.name, func(t *testing.T) {
			if why, ok := meant[c.name]; ok {
				t.Skip("differs as docs/ssh.md says: " + why)
			}
			want, got := lab.run(t, stock, c.script), lab.run(t, guestd, c.script)
			if got != want {
				t.Errorf("sshd:\n%v\nguestd:\n%v", want, got)
			}
		})
	}
}

// meant are the cases whose outcome is not sshd's, and why.
var meant = map[string]string{
	"a terminal's modes": "24 rows and 80 columns instead of none, and iutf8",
	"a terminal's owner": "group and mode are those of devpts",
}

// guestd starts guestd's server and returns the client's configuration for it.
func (l *pairLab) guestd(t *testing.T) (config string) {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(filepath.Join(l.dir, "user_key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Grant(access.Grant{Key: key.Marshal(), User: "root", TTL: -1, MaxConnections: -1, Env: []string{noStartUp}}); err != nil {
		t.Fatal(err)
	}
	table, err := proc.NewTable(proc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := sshd.New(sshd.Config{Access: store, Processes: table, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = store.Close()
		_ = table.Close()
	})
	hostKey, err := ssh.NewSignerFromKey(store.HostKey())
	if err != nil {
		t.Fatal(err)
	}
	return l.clientConfig(t, dir, socket, string(ssh.MarshalAuthorizedKey(hostKey.PublicKey())))
}
