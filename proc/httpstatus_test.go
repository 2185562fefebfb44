//go:build linux

package proc

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestHTTPStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/a%20b?c=d" {
			w.WriteHeader(http.StatusTeapot)
		} else {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer server.Close()
	for path, want := range map[string]int{"": 302, "/a%20b?c=d": 418} {
		u, err := url.Parse(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := httpStatus(context.Background(), u); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", u, got, err, want)
		}
	}
}

// A server that accepts and says nothing must not outlive the caller's
// patience.
func TestHTTPStatusSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			_, _ = bufio.NewReader(c).ReadString('\n') // it has been asked
			cancel()
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	if status, err := httpStatus(ctx, &url.URL{Scheme: "http", Host: l.Addr().String()}); err == nil {
		t.Errorf("a silent server gave %d", status)
	}
	if ctx.Err() == nil {
		t.Error("it returned before its context ended")
	}
}

func TestHTTPStatusGarbage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}()
	if status, err := httpStatus(context.Background(), &url.URL{Scheme: "http", Host: l.Addr().String()}); err == nil {
		t.Errorf("garbage gave %d", status)
	}
	l.Close()
	<-done
}

func FuzzParseStatusLine(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n")
	f.Add("HTTP/1.0 404\n")
	f.Add("HTTP/1.1  2 0")
	f.Fuzz(func(t *testing.T, line string) {
		if status, err := parseStatusLine(line); err == nil && (status < 100 || status > 999) {
			t.Errorf("%q gave status %d", line, status)
		}
	})
}
