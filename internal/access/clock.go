//go:build linux

package access

import (
	"time"

	"golang.org/x/sys/unix"
)

// never is a moment that does not come.
const never = time.Duration(1<<63 - 1)

// drift is how far the wall clock may move against CLOCK_BOOTTIME before the
// times that are shown follow it: without it two listings of one grant would
// differ by nanoseconds.
const drift = time.Second

// clock tells the time since boot, and what that is on the wall.
type clock struct {
	now    func() time.Duration
	offset time.Time // the wall's time at boot
}

// sinceBoot reads CLOCK_BOOTTIME. The call cannot fail for a clock that Linux
// has had since 2.6.39.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// after is the moment d from now, or never where that is out of range.
func after(now, d time.Duration) time.Duration {
	if d < 0 || now > never-d {
		return never
	}
	return now + d
}

// wall translates a moment; never is the zero time.
func (c *clock) wall(moment time.Duration) time.Time {
	if moment == never {
		return time.Time{}
	}
	offset := time.Now().Round(0).Add(-c.now())
	if d := offset.Sub(c.offset); d > drift || d < -drift {
		c.offset = offset
	}
	return c.offset.Add(moment)
}
