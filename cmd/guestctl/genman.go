package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newGenMan(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "gen-man DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true,
		Args:   arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeManual(cmd.Root(), args[0])
		},
	}
}

// writeManual writes a page for a command and, below it, for each of its
// commands and topics.
func writeManual(cmd *cobra.Command, dir string) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	file, err := os.Create(filepath.Join(dir, name+".1"))
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	page := manPage{w: out}
	page.write(cmd, name)
	if err := out.Flush(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	for _, child := range cmd.Commands() {
		if child.Hidden || child.Name() == "help" {
			continue
		}
		if err := writeManual(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage writes one page, in the macros of man(7).
type manPage struct{ w io.Writer }

func (p manPage) write(cmd *cobra.Command, name string) {
	fmt.Fprintf(p.w, ".TH %s 1 \"\" \"guestctl %s\" \"guestd manual\"\n", strings.ToUpper(roff(name)), roff(buildVersion()))
	p.section("NAME")
	fmt.Fprintf(p.w, "%s \\- %s\n", roff(name), roff(cmd.Short))
	if cmd.Runnable() {
		p.section("SYNOPSIS")
		p.line(`\fB` + roff(cmd.UseLine()) + `\fR`)
	}
	p.section("DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	p.text(long)
	p.options("OPTIONS", cmd.NonInheritedFlags())
	if cmd.HasParent() {
		p.options("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	}
	p.commands(cmd)
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(cmd.Example)
	}
	if cmd.Runnable() && !cmd.HasParent() {
		p.section("EXIT STATUS")
		p.text(exitCodesHelp)
		p.section("ENVIRONMENT")
		fmt.Fprintf(p.w, ".TP\n.B %s\nAddress of the agent, without %s.\n", roff(agentVariable), roff("--agent"))
		fmt.Fprintf(p.w, ".TP\n.B %s\nAddress of the guest's SSH server, without %s.\n", roff(doorVariable), roff("--ssh-address"))
	}
	p.seeAlso(cmd)
}

func (p manPage) section(title string) { fmt.Fprintf(p.w, ".SH %s\n", title) }

// line writes a line that is roff already.
func (p manPage) line(text string) { fmt.Fprintln(p.w, text) }

// text writes paragraphs; lines that are indented stay as they are.
func (p manPage) text(text string) {
	for paragraph := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") {
			p.verbatim(paragraph)
			continue
		}
		p.line(".PP")
		for line := range strings.SplitSeq(paragraph, "\n") {
			p.line(roff(line))
		}
	}
}

func (p manPage) verbatim(text string) {
	p.line(".PP\n.nf\n.RS")
	for line := range strings.SplitSeq(text, "\n") {
		p.line(roff(strings.TrimPrefix(line, "  ")))
	}
	p.line(".RE\n.fi")
}

func (p manPage) options(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		text := `\fB` + roff("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			text = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + text
		}
		if value != "" {
			text += ` \fI` + roff(value) + `\fR`
		}
		p.line(".TP\n" + text)
		p.line(roff(usage))
	})
}

func (p manPage) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	p.section("COMMANDS")
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() && child.Name() != "help" {
			fmt.Fprintf(p.w, ".TP\n.B %s\n%s\n", roff(child.Name()), roff(child.Short))
		}
	}
}

func (p manPage) seeAlso(cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, cmd.Parent().CommandPath())
	}
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" {
			pages = append(pages, child.CommandPath())
		}
	}
	if len(pages) == 0 {
		return
	}
	p.section("SEE ALSO")
	for i, page := range pages {
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		fmt.Fprintf(p.w, ".BR %s (1)%s\n", roff(strings.ReplaceAll(page, " ", "-")), comma)
	}
}

// roff escapes text: backslashes, hyphens, which would become typographic ones,
// and what at the beginning of a line would be a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
