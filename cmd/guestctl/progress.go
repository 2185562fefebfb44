package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/guestd/guestd/client"
)

// progress is a bar on stderr with rate and time left, or nothing where it is
// not wanted. It is for one goroutine at a time.
type progress struct {
	bar  *progressbar.ProgressBar // nil: not shown
	most int64
}

// showsProgress reports whether there is a terminal to show progress on, and
// nothing else is to be there: the terminal may be stdout, too.
func (a *app) showsProgress(f *cpFlags) bool {
	return isTerminal(a.stderr) && !f.noProgress && !f.quiet
}

func (a *app) newProgress(f *cpFlags, name string) *progress {
	if !a.showsProgress(f) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription(shorten(escape(name))),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(20),
		progressbar.OptionUseANSICodes(true),
		// Without this a bar of unknown length has a goroutine that nobody
		// awaits, and that reads what it must not.
		progressbar.OptionSetSpinnerChangeInterval(0),
	)}
}

// shorten keeps the end of a name, which tells more.
func shorten(name string) string {
	const most = 30
	runes := []rune(name)
	if len(runes) <= most {
		return name
	}
	return "…" + string(runes[len(runes)-most+1:])
}

// function is what a transfer reports to; nil if nothing is shown.
func (p *progress) function() func(client.Progress) {
	if p.bar == nil {
		return nil
	}
	return func(now client.Progress) { p.show(now.Bytes, now.Total) }
}

// show cannot fail in a way that matters: it is decoration.
func (p *progress) show(done, total int64) {
	if p.bar == nil {
		return
	}
	if total > 0 && total != p.most {
		p.most = total
		p.bar.ChangeMax64(total)
	}
	// The bar counts as finished, and goes, at its maximum.
	if p.most > 0 && done >= p.most {
		done = p.most - 1
	}
	_ = p.bar.Set64(done)
}

// finish removes the bar.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// reader counts what is read from r.
func (p *progress) reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return &countingReader{r: r, progress: p}
}

// writer counts what is written to w, of total bytes; 0: not known.
func (p *progress) writer(w io.Writer, total int64) io.Writer {
	if p.bar == nil {
		return w
	}
	return &countingWriter{w: w, progress: p, total: total}
}

type countingReader struct {
	r        io.Reader
	progress *progress
	n        int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.progress.show(c.n, 0)
	return n, err
}

type countingWriter struct {
	w        io.Writer
	progress *progress
	n, total int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.progress.show(c.n, c.total)
	return n, err
}

// formatSize is a size for people, in powers of 1024.
func formatSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for ; value >= 1024 && unit < 5; unit++ {
		value /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", value, " KMGTP"[unit])
}
