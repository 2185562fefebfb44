//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/sshd/sftp"
)

// errHelp ends a command that has printed its help.
var errHelp = flag.ErrHelp

const sftpServerUsage = `Serve SFTP on standard input and output, as the user who runs it.

Usage: guestd sftp-server [-ehR] [-d DIR] [-f FACILITY] [-l LEVEL] [-p LIST] [-P LIST] [-u UMASK]
       guestd sftp-server -Q requests

The options are those of OpenSSH's sftp-server:

  -d DIR       start in this directory; %d is the home directory, %u the login
               name, %% a percent sign
  -e           log to standard error instead of syslog
  -f FACILITY  log to this facility: DAEMON, USER, AUTH (the default), LOCAL0-7
  -l LEVEL     log this much: QUIET, FATAL, ERROR (the default), INFO, VERBOSE,
               DEBUG to DEBUG3; from INFO on each operation that opens, closes
               or changes something
  -p LIST      permit only the requests of this list, separated by commas
  -P LIST      refuse the requests of this list
  -Q requests  print the names of all requests
  -R           read only
  -u UMASK     take these bits (octal) off the modes of new files, instead of
               the umask of the process
  -h           print this

With any SFTP client that can run a program: sftp -D 'guestd sftp-server'
`

// sftpOptions are those of `guestd sftp-server`.
type sftpOptions struct {
	dir      string // unexpanded; "" is the working directory
	stderr   bool
	facility syslog.Priority
	quiet    bool
	level    slog.Level
	permit   []string // nil permits all
	refuse   []string
	query    string
	readOnly bool
	umask    *uint32 // nil is the process's
}

// sftpServer is `guestd sftp-server`. It returns when the client is gone.
func sftpServer(args []string, stdin io.ReadCloser, stdout, stderr io.Writer) error {
	o, err := parseSFTPOptions(args, stdout)
	switch {
	case errors.Is(err, errHelp):
		return nil
	case err != nil:
		return err
	case o.query != "":
		for _, name := range sftp.Requests() {
			fmt.Fprintln(stdout, name)
		}
		return nil
	}
	log := o.logger(stderr)
	server, err := o.server(log)
	if err != nil {
		return err
	}
	return server.Serve(context.Background(), stdio{stdin, stdout})
}

// stdio is standard input and output as one stream.
type stdio struct {
	io.ReadCloser
	io.Writer
}

func parseSFTPOptions(args []string, stdout io.Writer) (sftpOptions, error) {
	o := sftpOptions{facility: syslog.LOG_AUTH, level: slog.LevelError}
	// As with OpenSSH's, what follows the options means nothing: some callers
	// pass on a host's name.
	_, err := getopt(args, "d:ef:hl:p:P:Q:Ru:", func(option byte, value string) (err error) {
		switch option {
		case 'd':
			o.dir = value
		case 'e':
			o.stderr = true
		case 'f':
			o.facility, err = parseFacility(value)
		case 'h':
			_, _ = io.WriteString(stdout, sftpServerUsage)
			return errHelp
		case 'l':
			o.level, o.quiet, err = parseSSHLevel(value)
		case 'p':
			o.permit, err = parseRequests(value)
		case 'P':
			o.refuse, err = parseRequests(value)
		case 'Q':
			if o.query = value; value != "requests" {
				return fmt.Errorf("%q cannot be asked for, only \"requests\"", value)
			}
		case 'R':
			o.readOnly = true
		case 'u':
			o.umask, err = parseUmask(value)
		}
		return err
	})
	return o, err
}

// parseRequests takes a list apart. A name that is not known is an error: a
// misspelt one must not leave a request permitted.
func parseRequests(list string) ([]string, error) {
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(sftp.Requests(), name) {
			return nil, fmt.Errorf("unknown request %q; 'guestd sftp-server -Q requests' lists them", name)
		}
	}
	return names, nil
}

func parseUmask(text string) (*uint32, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fmt.Errorf("%q is not a umask: want octal digits, up to 777", text)
	}
	umask := uint32(n)
	return &umask, nil
}

func parseSSHLevel(text string) (level slog.Level, quiet bool, err error) {
	switch strings.ToUpper(text) {
	case "QUIET":
		return slog.LevelError, true, nil
	case "FATAL", "ERROR":
		return slog.LevelError, false, nil
	case "INFO", "VERBOSE":
		return slog.LevelInfo, false, nil
	case "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3":
		return slog.LevelDebug, false, nil
	}
	return 0, false, fmt.Errorf("unknown level %q: want QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG to DEBUG3", text)
}

func parseFacility(text string) (syslog.Priority, error) {
	name := strings.ToUpper(text)
	switch name {
	case "DAEMON":
		return syslog.LOG_DAEMON, nil
	case "USER":
		return syslog.LOG_USER, nil
	case "AUTH":
		return syslog.LOG_AUTH, nil
	case "AUTHPRIV":
		return syslog.LOG_AUTHPRIV, nil
	}
	if number, ok := strings.CutPrefix(name, "LOCAL"); ok && len(number) == 1 && number[0] >= '0' && number[0] <= '7' {
		return syslog.LOG_LOCAL0 + syslog.Priority(number[0]-'0')*(syslog.LOG_LOCAL1-syslog.LOG_LOCAL0), nil
	}
	return 0, fmt.Errorf("unknown facility %q: want DAEMON, USER, AUTH, AUTHPRIV or LOCAL0 to LOCAL7", text)
}

// logger logs to standard error or syslog. A guest without a syslog daemon has
// no log, and serves nevertheless.
func (o sftpOptions) logger(stderr io.Writer) *slog.Logger {
	if o.quiet {
		return slog.New(slog.DiscardHandler)
	}
	w := stderr
	if !o.stderr {
		sys, err := syslog.New(o.facility|syslog.LOG_INFO, "sftp-server")
		if err != nil {
			return slog.New(slog.DiscardHandler)
		}
		w = sys
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: o.level}))
}

func (o sftpOptions) server(log *slog.Logger) (*sftp.Server, error) {
	files, err := ownFiles()
	if err != nil {
		return nil, err
	}
	// Modes are made by the server, and nothing else is done here.
	umask := uint32(unix.Umask(0))
	if o.umask != nil {
		umask = *o.umask
	}
	server := &sftp.Server{
		Files:    files,
		Dir:      files.Base(),
		Umask:    &umask,
		ReadOnly: o.readOnly,
		Logger:   log,
		Permit: func(request string) bool {
			return (o.permit == nil || slices.Contains(o.permit, request)) && !slices.Contains(o.refuse, request)
		},
	}
	if log.Enabled(context.Background(), slog.LevelInfo) {
		server.Audit = func(op sftp.Op) { logSFTP(log, op) }
	}
	if o.dir != "" {
		dir, err := expandDir(o.dir, files)
		if err != nil {
			return nil, usageError{fmt.Errorf("option -d: %w", err)}
		}
		// OpenSSH's stays where it is, too.
		if info, err := files.Stat(context.Background(), dir); err != nil || !info.IsDir() {
			log.Error("cannot start in the directory", "dir", dir, "error", err)
		} else {
			server.Dir = dir
		}
	}
	return server, nil
}

// expandDir replaces what follows a percent sign in the value of -d.
func expandDir(text string, files *fsops.FS) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case i < len(text) && text[i] == 'd':
			out.WriteString(files.Identity().Home)
		case i < len(text) && text[i] == 'u':
			out.WriteString(files.Identity().Name)
		case i < len(text) && text[i] == '%':
			out.WriteByte('%')
		default:
			return "", fmt.Errorf("%q: a percent sign is followed by d, u or another one", text)
		}
	}
	return files.Resolve(out.String())
}

func logSFTP(log *slog.Logger, op sftp.Op) {
	args := []any{"path", op.Path}
	if op.Target != "" {
		args = append(args, "target", op.Target)
	}
	switch op.Request {
	case "open", "mkdir":
		args = append(args, "flags", op.Flags, "mode", fmt.Sprintf("%#o", op.Mode))
	case "close":
		args = append(args, "read", op.Read, "written", op.Written, "forced", op.Forced)
	}
	if op.Err != nil {
		args = append(args, "error", op.Err)
	}
	log.Info(op.Request, args...)
}
