//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// peerCommand starts this program as the other end of a raw transfer: a
// process of its own, as the agent is.
const peerCommand = "peer"

// chunk is what a raw transfer reads and writes at once, as ours does.
const chunk = 256 << 10

// Requests to the peer: one byte, for put followed by the size as 8 bytes, big
// endian; for both the path is fixed.
const (
	peerPut = 'p' // store the bytes that follow, answer one byte
	peerGet = 'g' // send the file, close
)

// servePeer listens on the unix socket args[0] and stores to, or sends, the
// file args[1]. It returns only with an error; its parent kills it.
func servePeer(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: peer SOCKET FILE")
	}
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := answer(conn, args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "bench peer:", err)
		}
		conn.Close()
	}
}

func answer(conn net.Conn, path string) error {
	var request [9]byte
	if _, err := io.ReadFull(conn, request[:]); errors.Is(err, io.EOF) {
		return nil // somebody looked whether we listen
	} else if err != nil {
		return err
	}
	if request[0] == peerGet {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return copyPlainly(conn, file)
	}
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(binary.BigEndian.Uint64(request[1:]))
	if err := copyPlainly(file, io.LimitReader(conn, size)); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	_, err = conn.Write([]byte{0})
	return err
}

// copyPlainly copies by read and write with one buffer. io.Copy would splice,
// which no protocol on top of the socket could.
func copyPlainly(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, chunk))
	return err
}

// peer is a running peer process.
type peer struct {
	cmd    *exec.Cmd
	socket string
	path   string // the file it stores and sends
}

func (b *bench) startPeer() (*peer, error) {
	dir, err := os.MkdirTemp(b.dir, "peer")
	if err != nil {
		return nil, err
	}
	p := &peer{socket: filepath.Join(dir, "s"), path: filepath.Join(dir, "file")}
	p.cmd = exec.Command("/proc/self/exe", peerCommand, p.socket, p.path)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if conn, err := net.Dial("unix", p.socket); err == nil {
			conn.Close()
			return p, nil
		} else if time.Now().After(deadline) {
			p.stop()
			return nil, err
		}
	}
}

func (p *peer) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	os.RemoveAll(filepath.Dir(p.socket))
}

// put sends size bytes of content to the peer's file.
func (p *peer) put(content io.Reader, size int64) error {
	return p.talk(peerPut, size, func(conn net.Conn) error {
		if err := copyPlainly(conn, content); err != nil {
			return err
		}
		var done [1]byte
		_, err := io.ReadFull(conn, done[:])
		return err
	})
}

// get reads the peer's file and throws it away.
func (p *peer) get() error {
	return p.talk(peerGet, 0, func(conn net.Conn) error { return copyPlainly(io.Discard, conn) })
}

func (p *peer) talk(request byte, size int64, rest func(net.Conn) error) error {
	conn, err := net.Dial("unix", p.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(binary.BigEndian.AppendUint64([]byte{request}, uint64(size))); err != nil {
		return err
	}
	return rest(conn)
}
