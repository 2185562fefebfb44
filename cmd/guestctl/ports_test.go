//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"testing"
)

func TestPorts(t *testing.T) {
	socket := newAgent(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, _ := net.SplitHostPort(l.Addr().String())
	number, _ := strconv.Atoi(text)
	var ports []jsonPort
	if err := json.Unmarshal([]byte(outputOf(t, socket, "ports", "--json")), &ports); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range ports {
		if int(p.Port) == number {
			found = p.Network == "tcp" && p.Address == "127.0.0.1" && p.PID == os.Getpid() && p.Name != "" && p.Event == ""
			if !found {
				t.Errorf("%+v", p)
			}
		}
	}
	if !found {
		t.Errorf("port %d is not in %+v", number, ports)
	}

	cmd := guestctl(t, socket, "ports", "--watch", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	await := func(event string) {
		t.Helper()
		for lines.Scan() {
			var p jsonPort
			if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if int(p.Port) == number && p.Event == event {
				return
			}
		}
		t.Fatalf("no %s of port %d", event, number)
	}
	await("opened")
	l.Close()
	await("closed")
}
