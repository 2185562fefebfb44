package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// grantFlags are the options of grant.
type grantFlags struct {
	key         string
	secret      bool
	id          string
	user        string
	ttl         lifetime
	connections count
	permit      []string
	command     string
	label       string
	env         []string
	client      string
	json        bool
}

const grantLong = `Let the holder of a credential in over SSH. Without further options it is good for one
connection, within five minutes, and permits everything.

The credential is a public key, of --key FILE.pub or - for stdin, whose owner logs
in as USER; or, with --secret, a secret that is made here and used as the user
name: whoever knows it needs nothing else. The guest gets only its SHA-256. It is
printed once and kept nowhere.

--key prints the grant's id, with which it is revoked; --secret prints the secret,
and the id on stderr. A grant lives in the agent's memory: it does not survive a
restart of the agent. The same grant twice under one --id is one grant.

--permit names what its connections may do, and nothing else is permitted then:

  pty shell exec sftp agent        terminals, the login shell, commands, file
                                   transfer (scp too), forwarding of the agent
  local-tcp[=HOST:PORT]            ssh -L and -D, to TCP addresses
  remote-tcp[=HOST:PORT]           ssh -R, TCP listeners in the guest
  local-unix[=PATH]                ssh -L, to unix sockets in the guest
  remote-unix[=PATH]               ssh -R, unix listeners in the guest

"*" stands for any host or port, and in a path for any part of a name; one kind may
be named several times.`

func newGrant(a *app) *cobra.Command {
	var f grantFlags
	cmd := &cobra.Command{
		Use:   "grant --key FILE.pub|- [flags]\n  guestctl grant --secret [flags]",
		Short: "Let the holder of a key or a secret in over SSH",
		Long:  grantLong,
		Example: `  guestctl grant --key ~/.ssh/id_ed25519.pub -u ann
  guestctl grant --secret -u ann --ttl 1h --label 'sent to ann@example.com'
  guestctl grant --key ci.pub --connections unlimited --ttl never --id ci
  guestctl grant --key ann.pub --permit sftp --permit local-tcp=localhost:5432
  guestctl grant --key backup.pub --command 'exec tar -C /srv -c .'`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.grant(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the public key in this `file`, a line as in authorized_keys; - is stdin")
	flags.BoolVar(&f.secret, "secret", false, "make a secret, to be used as the user name")
	flags.StringVar(&f.id, "id", "", "the grant's `name`, to revoke it by (default: a random one)")
	loginFlag(cmd, &f.user)
	lifeFlags(cmd, &f.ttl, &f.connections)
	flags.StringArrayVar(&f.permit, "permit", nil, "permit these `things`, separated by commas, and nothing else")
	flags.StringVar(&f.command, "command", "", "run this `script` instead of what the client asks for")
	flags.StringVar(&f.label, "label", "", "`note` where the credential went, for listings and the audit")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "set a variable for every process, `NAME=VALUE`; NAME alone takes the value that it has here")
	flags.StringVar(&f.client, "client", "", "the person's own `ADDRESS:PORT`, for SSH_CONNECTION in the guest")
	jsonFlag(cmd, &f.json)
	_ = cmd.RegisterFlagCompletionFunc("permit", cobra.FixedCompletions(permissionNames(), cobra.ShellCompDirectiveNoSpace))
	return cmd
}

// loginFlag is --user of commands that let somebody in.
func loginFlag(cmd *cobra.Command, user *string) {
	cmd.Flags().StringVarP(user, "user", "u", "", "log in as this Linux `NAME|UID` (default: the agent's own user)")
}

// lifeFlags are --ttl and --connections.
func lifeFlags(cmd *cobra.Command, ttl *lifetime, connections *count) {
	cmd.Flags().Var(ttl, "ttl", "let connections in for this `time`; never ends none (default 5m)")
	cmd.Flags().Var(connections, "connections", "let in this `number` of connections, or unlimited (default 1)")
}

func (a *app) grant(ctx context.Context, f *grantFlags) error {
	g, err := f.grant(a)
	if err != nil {
		return err
	}
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	info, err := c.Grant(ctx, g)
	if err != nil {
		return err
	}
	switch {
	case f.json:
		j := newJSONGrant(&info)
		j.Secret = g.Secret
		return a.printJSON(j)
	case f.secret:
		a.warn("granted %s to %s, %s", escape(info.ID), escape(info.User), until(&info))
		_, err = fmt.Fprintln(a.stdout, g.Secret)
	default:
		_, err = fmt.Fprintln(a.stdout, a.name(info.ID))
	}
	return err
}

// grant translates the options. With --secret it makes the secret.
func (f *grantFlags) grant(a *app) (client.Grant, error) {
	if f.secret == (f.key != "") {
		return client.Grant{}, usagef("give --key FILE.pub or --secret, one of them")
	}
	g := client.Grant{
		ID: f.id, User: f.user, TTL: time.Duration(f.ttl), MaxConnections: int(f.connections),
		Command: f.command, Label: f.label,
	}
	var err error
	if g.Permissions, err = parsePermissions(f.permit); err != nil {
		return g, err
	}
	for _, text := range f.env {
		if g.Env, err = a.addVariable(g.Env, text); err != nil {
			return g, err
		}
	}
	if f.client != "" {
		if g.Client, err = netip.ParseAddrPort(f.client); err != nil {
			return g, usagef("--client is ADDRESS:PORT, not %q", f.client)
		}
	}
	if f.secret {
		g.Secret = client.NewSecret()
		return g, nil
	}
	g.Key, err = a.readPublicKey(f.key)
	return g, err
}

// until says for how many connections and how long a grant is good.
func until(g *client.GrantInfo) string {
	connections := "any number of connections"
	switch {
	case g.MaxConnections == 1:
		connections = "one connection"
	case g.MaxConnections > 1:
		connections = fmt.Sprintf("%d connections", g.MaxConnections)
	}
	if g.Expires.IsZero() {
		return connections + ", until it is revoked"
	}
	return connections + ", until " + g.Expires.Local().Format(time.DateTime) + " of the guest's clock"
}
