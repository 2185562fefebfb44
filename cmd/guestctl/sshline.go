package main

import (
	"strings"

	"github.com/spf13/pflag"
)

// sshLine is a command line of 'guestctl ssh': long options are guestctl's, the
// others ssh's, which has no long ones.
type sshLine struct {
	own     []string // guestctl's options
	ssh     []string // ssh's options, but for the user
	command []string

	config  bool // ssh reads a configuration file that was asked for: -F
	forward bool // the SSH agent is to be forwarded: -A
}

// valued are ssh's options that have a value, of the newest version.
const valued = "BbcDEeFIiJLlmOoPpQRSWw"

// splitSSHLine sorts a command line. The first word that is not an option, or what
// follows "--", is the command.
func splitSSHLine(flags *pflag.FlagSet, args []string) (*sshLine, error) {
	line := &sshLine{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			line.command = args
			return line, nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			line.command = append([]string{arg}, args...)
			return line, nil
		case strings.HasPrefix(arg, "--"):
			args, err = line.long(flags, arg, args)
		default:
			args, err = line.cluster(arg, args)
		}
		if err != nil {
			return nil, err
		}
	}
	return line, nil
}

// long takes one of guestctl's own options, and returns the rest.
func (l *sshLine) long(flags *pflag.FlagSet, arg string, rest []string) ([]string, error) {
	name, _, given := strings.Cut(arg[2:], "=")
	flag := flags.Lookup(name)
	if flag == nil {
		return nil, usagef("unknown option %s; ssh's own options have one dash", arg)
	}
	l.own = append(l.own, arg)
	if given || flag.NoOptDefVal != "" {
		return rest, nil
	}
	if len(rest) == 0 {
		return nil, usagef("%s needs a value", arg)
	}
	l.own = append(l.own, rest[0])
	return rest[1:], nil
}

// cluster takes ssh's options of one word, and returns the rest.
func (l *sshLine) cluster(arg string, rest []string) ([]string, error) {
	for i := 1; i < len(arg); i++ {
		letter := arg[i]
		switch {
		case letter == 'h':
			l.own = append(l.own, "--help")
		case letter == 'u' || strings.IndexByte(valued, letter) >= 0:
			value := arg[i+1:]
			if value == "" {
				if len(rest) == 0 {
					return nil, usagef("-%c needs a value", letter)
				}
				value, rest = rest[0], rest[1:]
			}
			l.valued(letter, value)
			return rest, nil
		default:
			l.forward = l.forward || letter == 'A'
			l.ssh = append(l.ssh, "-"+string(letter))
		}
	}
	return rest, nil
}

// valued takes an option with its value. Whom to log in as is the grant's
// business.
func (l *sshLine) valued(letter byte, value string) {
	switch letter {
	case 'u', 'l':
		l.own = append(l.own, "--user="+value)
		return
	case 'F':
		l.config = true
	case 'o':
		name, _, _ := strings.Cut(strings.ReplaceAll(value, " ", "="), "=")
		l.forward = l.forward || strings.EqualFold(strings.TrimSpace(name), "ForwardAgent")
	}
	l.ssh = append(l.ssh, "-"+string(letter), value)
}
