//go:build linux

package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// httpPatience bounds one try of an HTTPCondition.
	httpPatience = 5 * time.Second
	// httpStatusLine bounds what is read of an answer.
	httpStatusLine = 1024
)

// httpStatus asks an HTTP server of the guest for u and returns the status of
// its answer, of which nothing more is read. Redirects are not followed.
//
// It is written out because net/http's client would add 2.3 MB to the binary,
// for TLS, proxies and HTTP/2 that a server on the guest's loopback never asks
// for.
func httpStatus(ctx context.Context, u *url.URL) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, httpPatience)
	defer cancel()
	port := u.Port()
	if port == "" {
		port = "80"
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// RFC 9112 §3: an origin-form request; RequestURI is escaped and begins
	// with a slash, and Host cannot hold a line break.
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: guestd\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		u.RequestURI(), u.Host)
	if err != nil {
		return 0, err
	}
	line, err := bufio.NewReaderSize(conn, httpStatusLine).ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	return parseStatusLine(string(line))
}

// parseStatusLine reads "HTTP/1.1 200 OK" (RFC 9112 §4; the reason may be
// missing).
func parseStatusLine(line string) (int, error) {
	version, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || err != nil || len(code) != 3 || status < 100 {
		return 0, errors.New("not an HTTP/1 answer")
	}
	return status, nil
}
