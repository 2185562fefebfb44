package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// portsFlags are the options of ports.
type portsFlags struct {
	watch bool
	json  bool
}

const portsLong = `List what listens in the guest: TCP listeners, and UDP sockets that are bound.
PROCESS is the id of the process, started by the agent, that is the listener or
that it descends from.

With --watch it goes on to print what changes, "opened" and "closed", until
interrupted.`

func newPorts(a *app) *cobra.Command {
	var f portsFlags
	cmd := &cobra.Command{
		Use:   "ports [flags]",
		Short: "List what listens in the guest",
		Long:  portsLong,
		Example: `  guestctl ports
  guestctl ports --json | jq '.[] | select(.process == "web") | .port'
  guestctl ports --watch`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.ports(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.watch, "watch", "w", false, "go on with what changes")
	jsonFlag(cmd, &f.json)
	return cmd
}

// jsonPort is a port as --json prints it; jsonHelp documents it.
type jsonPort struct {
	Event   string `json:"event,omitempty"`
	Network string `json:"network"`
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	UID     int    `json:"uid"`
	PID     int    `json:"pid,omitempty"`
	Name    string `json:"name,omitempty"`
	Process string `json:"process,omitempty"`
}

func newJSONPort(event string, p *client.Port) jsonPort {
	return jsonPort{event, p.Network, p.Addr.Addr().String(), p.Addr.Port(), p.UID, p.PID, p.Name, p.Process}
}

func (a *app) ports(ctx context.Context, f *portsFlags) error {
	if f.watch {
		return a.watchPorts(ctx, f)
	}
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	ports, err := c.Ports(ctx)
	if err != nil {
		return err
	}
	t := table[client.Port]{
		heading: "PROTO\tADDRESS\tUID\tPID\tNAME\tPROCESS",
		row: func(p *client.Port) string {
			return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s", escape(p.Network), p.Addr, p.UID, pidOf(p), orDash(p.Name), orDash(p.Process))
		},
		json: func(p *client.Port) any { return newJSONPort("", p) },
	}
	return t.print(a, &listFlags{json: f.json}, ports)
}

func (a *app) watchPorts(ctx context.Context, f *portsFlags) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	watch, err := c.WatchPorts(ctx)
	if err != nil {
		return err
	}
	defer release(watch)
	for change, err := range watch.Changes() {
		if err != nil {
			return err
		}
		for _, part := range []struct {
			event string
			ports []client.Port
		}{{"closed", change.Closed}, {"opened", change.Opened}} {
			for i := range part.ports {
				if err := a.printPort(f, part.event, &part.ports[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// printPort prints a line about one port. Its columns have a width that most
// lines keep to, as nobody knows what comes.
func (a *app) printPort(f *portsFlags, event string, p *client.Port) error {
	if f.json {
		return a.printJSONLine(newJSONPort(event, p))
	}
	_, err := fmt.Fprintf(a.stdout, "%-7s %-5s %-21s uid %d pid %s %s %s\n",
		event, escape(p.Network), p.Addr, p.UID, pidOf(p), orDash(p.Name), orDash(p.Process))
	return err
}

func pidOf(p *client.Port) string {
	if p.PID == 0 {
		return "-"
	}
	return strconv.Itoa(p.PID)
}

// completePort offers the guest's TCP ports, to be the same on both sides.
func (a *app) completePort(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var offers []string
	seen := make(map[uint16]bool)
	a.ask(cmd, func(ctx context.Context, c *client.Client) {
		ports, err := c.Ports(ctx)
		if err != nil {
			return
		}
		for i := range ports {
			p := &ports[i]
			number := strconv.Itoa(int(p.Addr.Port()))
			if strings.HasPrefix(p.Network, "tcp") && strings.HasPrefix(number, toComplete) && !seen[p.Addr.Port()] {
				seen[p.Addr.Port()] = true
				offers = append(offers, number+"\t"+orDash(p.Name))
			}
		}
	})
	return offers, cobra.ShellCompDirectiveNoFileComp
}
