package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"
)

// output is standard output. Its reader may go away (`guestctl … | head`): the
// first error stays, every later write fails with it, and the command is ended.
type output struct {
	w       io.Writer
	failed  func(error) // told of the first error
	blocked *blocked

	mu  sync.Mutex
	err error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.blocked.writer(o.w).Write(p)
	if err != nil {
		o.err = &outputError{err}
		if o.failed != nil {
			o.failed(o.err)
		}
		return n, o.err
	}
	return n, nil
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// outputError is a failed write to standard output.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write standard output: " + e.err.Error() }

func (e *outputError) Unwrap() error { return e.err }

// closedEarly reports whether a write failed because its reader is gone. The
// guest's own errors are none of this.
func closedEarly(err error) bool {
	failed, ok := errors.AsType[*outputError](err)
	return ok && errors.Is(failed.err, syscall.EPIPE)
}

// page returns a buffered stdout. What is written to it is lost without flush.
func (a *app) page() *bufio.Writer { return bufio.NewWriterSize(a.stdout, 32<<10) }

// name is a name from the guest for stdout: as it is for a program, with
// control characters escaped for a terminal.
func (a *app) name(s string) string {
	if isTerminal(a.stdout.w) {
		return escape(s)
	}
	return s
}

// escape makes text of the guest fit for a terminal: what is not printable is
// written as in Go's strings, so that a file's name cannot move the cursor, set
// the title or end the line.
func escape(s string) string {
	plain := func(r rune) bool { return r != utf8.RuneError && strconv.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case plain(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// raw is s for a "raw_…" field of JSON, which is there only if the text beside
// it cannot hold it: if it is not UTF-8.
func raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// printJSON prints one JSON value for a command.
func (a *app) printJSON(v any) error { return writeJSON(a.stdout, v, "  ") }

// printJSONLine prints one value of a stream of JSON lines.
func (a *app) printJSONLine(v any) error { return writeJSON(a.stdout, v, "") }

func writeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeC1(b.Bytes()))
	return err
}

// escapeC1 escapes the control characters that JSON allows in strings (DEL and
// U+0080 to U+009F): to some terminals they are commands.
func escapeC1(text []byte) []byte {
	isC1 := func(r rune) bool { return r >= 0x7f && r < 0xa0 }
	if bytes.IndexFunc(text, isC1) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if isC1(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// jsonArray writes the elements of one JSON array as they come: a directory may
// have more than fits into memory.
type jsonArray struct {
	w     *bufio.Writer
	count int
}

func (j *jsonArray) add(v any) error {
	separator := ",\n"
	if j.count == 0 {
		separator = "[\n"
	}
	j.count++
	if _, err := j.w.WriteString(separator); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := writeJSON(&b, v, ""); err != nil {
		return err
	}
	_, err := j.w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return err
}

// end closes the array and flushes.
func (j *jsonArray) end() error {
	text := "\n]\n"
	if j.count == 0 {
		text = "[]\n"
	}
	if _, err := j.w.WriteString(text); err != nil {
		return err
	}
	return j.w.Flush()
}
