package main

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// forwardSpec is one operand of forward.
type forwardSpec struct {
	text    string // as it was given
	reverse bool   // the guest listens
	listen  endpoint
	target  endpoint
}

// endpoint is where to listen or to connect to.
type endpoint struct{ network, address string }

func (e endpoint) String() string {
	if e.network == "udp" {
		return e.address + "/udp"
	}
	return e.address
}

const (
	loopback  = "127.0.0.1"
	localhost = "localhost"
)

// parseForward parses "[LISTEN:]TARGET", each of which is PORT, HOST:PORT or the
// path of a unix socket.
func parseForward(text string, reverse bool) (forwardSpec, error) {
	spec := forwardSpec{text: text, reverse: reverse}
	bad := func(what string) (forwardSpec, error) {
		return forwardSpec{}, usagef("%q: %s (see 'guestctl forward --help')", text, what)
	}
	fields, ok := splitFields(text)
	if !ok {
		return bad("brackets are for an IPv6 address, as in [::1]:8080")
	}
	network := "tcp"
	last := &fields[len(fields)-1]
	if !isSocketPath(*last) {
		if port, found := strings.CutSuffix(*last, "/udp"); found {
			network, *last = "udp", port
		} else if port, found := strings.CutSuffix(*last, "/tcp"); found {
			*last = port
		}
	}
	var ends []endpoint
	for len(fields) > 0 {
		end, rest, problem := takeEndpoint(fields, network)
		if problem != "" {
			return bad(problem)
		}
		ends, fields = append(ends, end), rest
	}
	switch {
	case len(ends) > 2:
		return bad("has more than LISTEN:TARGET")
	case len(ends) == 1 && ends[0].network == "unix":
		return bad("says only one of LISTEN:TARGET")
	case len(ends) == 1:
		// One port is the same on both sides.
		host, port, _ := net.SplitHostPort(ends[0].address)
		ends = []endpoint{{network, net.JoinHostPort("", port)}, {network, net.JoinHostPort(host, port)}}
	}
	spec.listen, spec.target = ends[0].withHost(loopback), ends[1].withHost(localhost)
	guest := spec.target
	if reverse {
		guest = spec.listen
	}
	switch {
	case strings.HasSuffix(spec.target.address, ":0") && spec.target.network != "unix":
		return bad("there is no port 0 to connect to")
	case network == "udp" && reverse:
		return bad("UDP goes from the host to the guest only")
	case network == "udp" && (spec.listen.network != network || spec.target.network != network):
		return bad("UDP has no unix sockets")
	case guest.network == "unix" && !strings.HasPrefix(guest.address, "/") && !strings.HasPrefix(guest.address, "@"):
		return bad("a path in the guest is absolute")
	}
	return spec, nil
}

// takeEndpoint takes an endpoint from the beginning of the fields, and returns
// the rest, or what is wrong.
func takeEndpoint(fields []string, network string) (end endpoint, rest []string, problem string) {
	first := fields[0]
	switch {
	case isSocketPath(first):
		if !strings.HasPrefix(first, "@") {
			first = filepath.Clean(first)
		}
		return endpoint{"unix", first}, fields[1:], ""
	case isPort(first):
		return endpoint{network, net.JoinHostPort("", first)}, fields[1:], ""
	case first == "":
		return endpoint{}, nil, "has an empty part"
	case strings.Trim(first, "0123456789") == "":
		return endpoint{}, nil, first + " is not a port: the largest is 65535"
	case strings.Contains(first, "/"): // "80/udp:90": it is for the end
		return endpoint{}, nil, strconv.Quote(first) + " is neither a port nor a host"
	case len(fields) == 1 || !isPort(fields[1]):
		return endpoint{}, nil, strconv.Quote(first) + " is not a port, and no port follows it"
	}
	return endpoint{network, net.JoinHostPort(strings.Trim(first, "[]"), fields[1])}, fields[2:], ""
}

// withHost fills in the host of an address without one.
func (e endpoint) withHost(host string) endpoint {
	if port, found := strings.CutPrefix(e.address, ":"); found && e.network != "unix" {
		e.address = net.JoinHostPort(host, port)
	}
	return e
}

// isSocketPath tells a path or "@name" from a host or a port.
func isSocketPath(field string) bool {
	return strings.HasPrefix(field, "/") || strings.HasPrefix(field, "./") || strings.HasPrefix(field, "../") || strings.HasPrefix(field, "@")
}

func isPort(field string) bool {
	_, err := strconv.ParseUint(field, 10, 16)
	return err == nil
}

// splitFields splits at colons that are not in brackets. False is a bracket
// that is out of place.
func splitFields(text string) ([]string, bool) {
	var fields []string
	for {
		end := strings.IndexByte(text, ':')
		if strings.HasPrefix(text, "[") {
			end = strings.IndexByte(text, ']') + 1
			if end == 0 || end < len(text) && text[end] != ':' {
				return nil, false
			}
			if end == len(text) {
				end = -1
			}
		}
		if end < 0 {
			return append(fields, text), true
		}
		fields = append(fields, text[:end])
		text = text[end+1:]
	}
}
