package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/client"
)

// configLabel begins the label of grants that ssh-config makes.
const configLabel = "guestctl ssh-config "

// configTTL is how long such a grant is good, unless something else is asked for:
// a working day.
const configTTL = 12 * time.Hour

// sshConfigFlags are the options of ssh-config.
type sshConfigFlags struct {
	address     string
	user        string
	ttl         lifetime
	connections count
	key         string
	permit      []string
}

const sshConfigLong = `Print a block of ssh_config(5), so that ssh, scp, sftp, rsync, VS Code and all that
read ~/.ssh/config know the guest as NAME. Put it into a file that is included:

  mkdir -p ~/.ssh/guests
  guestctl ssh-config vm1 > ~/.ssh/guests/vm1

with this at the top of ~/.ssh/config, once:

  Include guests/*

It makes a key and grants it for any number of connections within 12 hours. What is
left on this machine is a directory, ~/.local/share/guestd/NAME ($XDG_DATA_HOME, if
set), with the private key, readable by you alone, and the guest's host key. Whoever
copies that key may come in as long as the grant lives: 'guestctl revoke' ends it.

After that time, and when the guest or its agent was restarted, ssh refuses; run
the command again. Each time makes a new key in place of the old one; connections
that are open stay. --key takes a key of yours instead, and writes none.

` + doorHelp

func newSSHConfig(a *app) *cobra.Command {
	var f sshConfigFlags
	cmd := &cobra.Command{
		Use:   "ssh-config [flags] [NAME]",
		Short: "Print what ssh has to know to reach the guest by a name",
		Long:  sshConfigLong,
		Example: `  guestctl ssh-config vm1 > ~/.ssh/guests/vm1 && rsync -a src/ vm1:src/
  guestctl ssh-config -u ann --ttl 1h --key ~/.ssh/id_ed25519 vm1`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sshConfig(cmd.Context(), &f, strings.Join(args, ""))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	doorFlag(cmd, &f.address)
	loginFlag(cmd, &f.user)
	flags.Var(&f.ttl, "ttl", "let connections in for this `time`; never ends none (default 12h)")
	flags.Var(&f.connections, "connections", "let in this `number` of connections (default unlimited)")
	flags.StringVar(&f.key, "key", "", "private key `file` to use; its public key is in the same place, with .pub")
	flags.StringArrayVar(&f.permit, "permit", nil, "permit these `things` and nothing else; see 'guestctl grant --help'")
	return cmd
}

func (a *app) sshConfig(ctx context.Context, f *sshConfigFlags, name string) error {
	permissions, err := parsePermissions(f.permit)
	if err != nil {
		return err
	}
	if err := checkLogin(f.user); err != nil {
		return err
	}
	door, err := a.door(f.address)
	if err != nil {
		return err
	}
	if name == "" {
		name = door.name
	}
	if !validHostName(name) {
		return usagef("%q is not a name for a guest: letters, digits, and within it - _ and .", name)
	}
	files, key, err := a.configKey(f, name)
	if err != nil {
		return err
	}
	options, err := door.options(files, false)
	if err != nil {
		return err
	}
	g := client.Grant{
		Key: key.public, User: f.user, TTL: time.Duration(f.ttl), MaxConnections: int(f.connections),
		Permissions: permissions, Label: configLabel + name,
	}
	if g.TTL == 0 {
		g.TTL = configTTL
	}
	if g.MaxConnections == 0 {
		g.MaxConnections = -1
	}
	info, user, err := a.grantConfig(ctx, files, key, g)
	if err != nil {
		return err
	}
	out := a.page()
	fmt.Fprintf(out, "# By guestctl ssh-config. Grant %s: %s.\n", escape(info.ID), until(info))
	fmt.Fprintf(out, "# Key and host key are in %s.\n", escape(filepath.Dir(files.knownHosts)))
	fmt.Fprintf(out, "Host %s\n  User %s\n", files.alias, user)
	for _, option := range options {
		fmt.Fprintf(out, "  %s %s\n", option.name, option.value)
	}
	return out.Flush()
}

// configKey returns where a guest's files are to be, and the key to grant: a new
// one, or the public half of that of --key.
func (a *app) configKey(f *sshConfigFlags, name string) (*sshFiles, *keyPair, error) {
	dir, err := a.dataDir(name)
	if err != nil {
		return nil, nil, err
	}
	files := filesIn(dir, name)
	if f.key == "" {
		key, err := newKeyPair(configLabel + name)
		return files, key, err
	}
	if files.key, err = filepath.Abs(strings.TrimSuffix(f.key, ".pub")); err != nil {
		return nil, nil, err
	}
	public, err := readPublicHalf(files.key)
	return files, &keyPair{public: public}, err
}

// grantConfig grants the key, writes what ssh reads, and returns the user to log
// in as. What this command granted for the key before is taken back, if nobody
// is in by it, and not before there is something in its place: a command that
// fails leaves what worked.
func (a *app) grantConfig(
	ctx context.Context, files *sshFiles, key *keyPair, g client.Grant,
) (info *client.GrantInfo, user string, err error) {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return nil, "", err
	}
	granted, err := c.Grant(ctx, g)
	if errors.Is(err, fs.ErrExist) { // of one key there can be but one grant
		if err = retireConfigGrant(ctx, c, g.Key); err == nil {
			granted, err = c.Grant(ctx, g)
		}
	}
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			a.takeBack(ctx, granted.ID)
		}
	}()
	if user, err = loginName(g.User, granted.User); err != nil {
		return nil, "", err
	}
	if err = files.pin(granted.HostKey); err != nil || key.private == nil {
		return &granted, user, err
	}
	old, oldErr := readPublicHalf(files.key)
	if err = files.writeKey(key); err == nil && oldErr == nil {
		// Without its key it is good for nothing, and ends in its time.
		_ = retireConfigGrant(ctx, c, old)
	}
	return &granted, user, err
}

// readPublicHalf reads the public key beside a private one.
func readPublicHalf(path string) (ssh.PublicKey, error) {
	text, err := readKeyFile(path + ".pub")
	if err != nil {
		return nil, err
	}
	return parsePublicKey(path+".pub", text)
}

// errGrantInUse says that a key has a grant that somebody is in by.
var errGrantInUse = errors.New("connections of the earlier grant are open")

// retireConfigGrant revokes the grant that ssh-config made for a key, if there
// is one. The error is errGrantInUse while somebody is in by it.
func retireConfigGrant(ctx context.Context, c *client.Client, key ssh.PublicKey) error {
	grants, err := c.Grants(ctx)
	if err != nil {
		return err
	}
	fingerprint := ssh.FingerprintSHA256(key)
	for i := range grants {
		g := &grants[i]
		switch {
		case g.Fingerprint != fingerprint || !strings.HasPrefix(g.Label, configLabel):
		case g.Live > 0:
			return fmt.Errorf("%w: end them, or withdraw it with 'guestctl revoke %s'", errGrantInUse, g.ID)
		default:
			if _, err := c.Revoke(ctx, g.ID); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// dataDir makes the directory of a guest's files, for its owner alone.
func (a *app) dataDir(name string) (string, error) {
	base := a.env("XDG_DATA_HOME")
	if !filepath.IsAbs(base) { // the XDG specification has it so
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(home, ".local", "share")
	}
	dir := filepath.Join(base, "guestd", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s: others may write there, mode %04o; a key is not safe in it", dir, info.Mode().Perm())
	}
	return dir, nil
}

// validHostName reports whether name is one of a file and of a host, and no
// pattern.
func validHostName(name string) bool {
	const most = 64
	for i, r := range name {
		if !isAlphanumeric(r) && (i == 0 || !strings.ContainsRune("-_.", r)) {
			return false
		}
	}
	return name != "" && len(name) <= most
}
