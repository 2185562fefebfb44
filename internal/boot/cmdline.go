package boot

import "strings"

// Options are the `guestd.KEY=VALUE` parameters of the kernel command line,
// the only configuration that reaches PID 1 without a disk or a network.
// The command line is readable by every process in the guest: no secrets.
type Options struct {
	// Listen are the addresses the agent serves on, in order
	// (guestd.listen=ADDR, repeatable). Nil leaves the agent's default.
	Listen []string

	// SSH are the addresses it serves SSH on (guestd.ssh=ADDR, repeatable, or
	// guestd.ssh=none). Nil leaves the agent's default.
	SSH []string

	// Config is the path of the agent's configuration (guestd.config=PATH).
	Config string

	// Hostname is set before the agent starts (guestd.hostname=NAME). Empty
	// means /etc/hostname.
	Hostname string

	// Modules are loaded in addition to [Config.Modules], with what they
	// depend on (guestd.modules=NAME[,NAME…], repeatable).
	Modules []string

	// PowerOffByReboot is for a VMM that ends a guest when it reboots and
	// hangs when it powers off, as Firecracker does on x86
	// (guestd.poweroff=reboot).
	PowerOffByReboot bool

	// Unknown are the guestd.* parameters that this version does not know or
	// cannot use, as they were written. They are logged and otherwise ignored:
	// an old agent must boot with a newer host's command line.
	Unknown []string
}

// parameterPrefix marks the parameters that are ours. The kernel keeps every
// dotted name away from init's environment, so they are read from /proc/cmdline.
const parameterPrefix = "guestd."

// ParseCommandLine reads the options out of a kernel command line, with the
// kernel's own rules of quoting. A parameter given twice counts the last time,
// unless it is a list. What follows a lone "--" belongs to init's argv.
func ParseCommandLine(line string) Options {
	var o Options
	for _, parameter := range splitParameters(line) {
		if parameter == "--" {
			break
		}
		key, value, _ := strings.Cut(parameter, "=")
		// '-' and '_' are the same in a parameter's name, as for the kernel.
		name, ours := strings.CutPrefix(strings.ReplaceAll(key, "-", "_"), parameterPrefix)
		if ours && !o.set(name, unquote(value)) {
			o.Unknown = append(o.Unknown, parameter)
		}
	}
	return o
}

// set stores one option. It reports false for a name or value that is not known.
func (o *Options) set(name, value string) bool {
	if value == "" {
		return false
	}
	switch name {
	case "listen":
		o.Listen = append(o.Listen, value)
	case "ssh":
		o.SSH = append(o.SSH, value)
	case "config":
		o.Config = value
	case "hostname":
		if !validHostname(value) {
			return false
		}
		o.Hostname = value
	case "modules":
		for module := range strings.SplitSeq(value, ",") {
			if module != "" {
				o.Modules = append(o.Modules, module)
			}
		}
	case "poweroff":
		o.PowerOffByReboot = value == "reboot"
		return value == "reboot" || value == "poweroff"
	default:
		return false
	}
	return true
}

// splitParameters splits at white space outside of double quotes. A quote that
// opens a whole parameter is removed; one that opens a value is left for
// [unquote].
func splitParameters(line string) []string {
	var parameters []string
	start, quoted := -1, false
	end := func(i int) {
		if start >= 0 {
			parameters = append(parameters, unquote(line[start:i]))
		}
		start = -1
	}
	for i := range len(line) {
		switch c := line[i]; {
		case isSpace(c) && !quoted:
			end(i)
		default:
			if start < 0 {
				start = i
			}
			if c == '"' {
				quoted = !quoted
			}
		}
	}
	end(len(line))
	return parameters
}

func isSpace(c byte) bool {
	return c == ' ' || (c >= '\t' && c <= '\r')
}

// unquote removes an opening double quote and the one that closes it. Quotes
// elsewhere are ordinary characters.
func unquote(s string) string {
	if rest, opened := strings.CutPrefix(s, `"`); opened {
		return strings.TrimSuffix(rest, `"`)
	}
	return s
}

// validHostname accepts what sethostname(2) and RFC 1123 have in common: up to
// 64 bytes of letters, digits, dots and inner hyphens.
func validHostname(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '-' || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
