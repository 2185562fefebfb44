//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	sshRounds  = 7
	coldBatch  = 3
	warmBatch  = 15
	keyBatch   = 200
	keyPauseMs = 1
)

// withSSH runs a measurement that needs both servers; where there is no
// OpenSSH, rows say so.
func withSSH(measure func(context.Context, *bench, *sshPair) ([]row, error), ids ...string) func(context.Context, *bench) ([]row, error) {
	return func(ctx context.Context, b *bench) ([]row, error) {
		p, err := b.startSSHPair(ctx)
		if errors.Is(err, errNoSSH) {
			var rows []row
			for _, id := range ids {
				rows = append(rows, row{id: id, what: "SSH", against: "sshd", result: notMeasured, note: err.Error()})
			}
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		defer p.stop()
		return measure(ctx, b, p)
	}
}

// timedCommand times a new command each time.
func timedCommand(command func() *exec.Cmd) timed {
	return func() (time.Duration, error) {
		cmd := command()
		return clock(func() error {
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
			}
			return nil
		})
	}
}

// sshCold is P5: a connection, a program, the end.
func sshCold(ctx context.Context, _ *bench, p *sshPair) ([]row, error) {
	cold := func(socket string) timed {
		return timedCommand(func() *exec.Cmd { return p.client(ctx, "ssh", socket, "guest", "/bin/true") })
	}
	r, err := batches(sshRounds, coldBatch, cold(p.ours), cold(p.stock))
	if err != nil {
		return nil, err
	}
	return []row{{
		id: "P5", what: "ssh guest true, with a new connection", against: "sshd -i", goal: "≤ 0.40×",
		result: r.String(), met: r.median <= 0.4, note: besides(r) + "; the stock client is in both",
	}}, nil
}

// sshWarm is P6: a program over a connection that stands.
func sshWarm(ctx context.Context, _ *bench, p *sshPair) ([]row, error) {
	warm := func(socket string) (timed, *ssh.Client, error) {
		c, err := p.dial(socket)
		return func() (time.Duration, error) {
			return clock(func() error {
				s, err := c.NewSession()
				if err != nil {
					return err
				}
				return s.Run("exec /bin/true")
			})
		}, c, err
	}
	return comparePair(p, warm, warmBatch, func(r ratio) row {
		return row{
			id: "P6", what: "exec of true over a connection that stands", against: "sshd", goal: "≤ 0.90×",
			result: r.String(), met: r.median <= 0.9, note: besides(r),
		}
	})
}

// comparePair measures over one standing connection to each server.
func comparePair(p *sshPair, open func(socket string) (timed, *ssh.Client, error), n int, describe func(ratio) row) ([]row, error) {
	ours, c, err := open(p.ours)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	stock, c2, err := open(p.stock)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c2.Close() }()
	r, err := batches(sshRounds, n, ours, stock)
	if err != nil {
		return nil, err
	}
	return []row{describe(r)}, nil
}

// sshBulk is P7 and P8: bytes through a stock client.
func sshBulk(ctx context.Context, b *bench, p *sshPair) ([]row, error) {
	var rows []row
	for _, c := range []struct {
		id, cipher string
		args       []string
		up, down   float64
		note       string
	}{
		{"P7", "the client's default cipher", nil, 1.3, 1.3, "; that is aes128-gcm here, and chacha20-poly1305 with sshd"},
		{"P8", "aes128-gcm", []string{"-c", "aes128-gcm@openssh.com"}, 0.95, 1.1, ""},
	} {
		for _, up := range []bool{true, false} {
			goal, what, command := c.down, "down", fmt.Sprintf("head -c %d /dev/zero", b.size)
			if up {
				goal, what, command = c.up, "up", "cat >/dev/null"
			}
			transfer := func(socket string) timed {
				return func() (time.Duration, error) {
					cmd := p.client(ctx, "ssh", socket, append(c.args, "guest", command)...)
					if up {
						cmd.Stdin = io.LimitReader(zeros{}, b.size)
					}
					return clock(cmd.Run)
				}
			}
			r, cpu, err := p.pairsCPU(b.rounds, transfer)
			if err != nil {
				return nil, err
			}
			r = r.inverse()
			rows = append(rows, row{
				id: c.id, what: fmt.Sprintf("%s through ssh, %s, %s", size(b.size), what, c.cipher), against: "sshd", goal: fmt.Sprintf("≥ %.2f", goal),
				result: r.String(), met: r.median >= goal, note: fmt.Sprintf("%s against %s; %s%s", speed(b.size, r.ours), speed(b.size, r.theirs), cpu, c.note),
			})
		}
	}
	return rows, nil
}

// pairsCPU is pairs for both servers, and says how their processor times
// compare: where the client is what takes the time, that is the difference.
func (p *sshPair) pairsCPU(rounds int, transfer func(socket string) timed) (ratio, string, error) {
	ours, stock, err1 := p.cpu()
	r, err2 := pairs(rounds, transfer(p.ours), transfer(p.stock))
	ours2, stock2, err3 := p.cpu()
	if err := errors.Join(err1, err2, err3); err != nil {
		return ratio{}, "", err
	}
	return r, fmt.Sprintf("the server and its command took %.2f of sshd's CPU time", (ours2-ours).Seconds()/(stock2-stock).Seconds()), nil
}

// sftpBulk is P9: a file with the stock sftp.
func sftpBulk(ctx context.Context, b *bench, p *sshPair) ([]row, error) {
	file := p.path("file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(file, b.size); err != nil {
		return nil, err
	}
	var rows []row
	for _, command := range []string{"put", "get"} {
		transfer := func(socket string) timed {
			return timedCommand(func() *exec.Cmd {
				cmd := p.client(ctx, "sftp", socket, "-q", "-b", "-", "guest")
				cmd.Stdin = strings.NewReader(command + " " + file + " " + p.path("copy") + "\n")
				return cmd
			})
		}
		r, err := pairs(b.rounds, transfer(p.ours), transfer(p.stock))
		if err != nil {
			return nil, err
		}
		r = r.inverse()
		rows = append(rows, row{
			id: "P9", what: fmt.Sprintf("sftp %s of %s", command, size(b.size)), against: "sftp-server behind sshd", goal: "≥ 1.00",
			result: r.String(), met: r.median >= 1, note: fmt.Sprintf("%s against %s", speed(b.size, r.ours), speed(b.size, r.theirs)),
		})
	}
	return rows, nil
}

// keyPress is P10: from a key to its echo, through a terminal.
func keyPress(_ context.Context, _ *bench, p *sshPair) ([]row, error) {
	open := func(socket string) (timed, *ssh.Client, error) {
		c, err := p.dial(socket)
		if err != nil {
			return nil, nil, err
		}
		press, err := typist(c)
		return press, c, err
	}
	return comparePair(p, open, keyBatch, func(r ratio) row {
		return row{
			id: "P10", what: "a key until its echo, through a terminal", against: "sshd", goal: "≤ 1.00×",
			result: r.String(), met: r.median <= 1, note: besides(r) + "; Go's client in both; a bare server of x/crypto/ssh with a terminal is at 1.2 to 1.3",
		}
	})
}

// typist presses one key, now and then as people do, and waits for its echo.
func typist(c *ssh.Client) (timed, error) {
	s, err := c.NewSession()
	if err != nil {
		return nil, err
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		return nil, err
	}
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// A shell on the terminal would echo by itself.
	if err := s.Start("stty -icanon; echo; exec cat >/dev/null"); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(out, make([]byte, len("\r\n"))); err != nil {
		return nil, err
	}
	key := make([]byte, 1)
	return func() (time.Duration, error) {
		time.Sleep(keyPauseMs * time.Millisecond)
		return clock(func() error {
			if _, err := in.Write([]byte("x")); err != nil {
				return err
			}
			_, err := io.ReadFull(out, key)
			return err
		})
	}, nil
}

// besides says the absolute times of a ratio.
func besides(r ratio) string {
	return fmt.Sprintf("%v against %v", r.ours.Round(time.Microsecond), r.theirs.Round(time.Microsecond))
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
