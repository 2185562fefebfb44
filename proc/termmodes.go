//go:build linux

package proc

import "golang.org/x/sys/unix"

// The opcodes of RFC 4254 §8 that are not a flag or a control character.
const (
	opEnd    = 0
	opISpeed = 128
	opOSpeed = 129

	disabledChar = 255 // RFC 4254 §8: "255 if none"
)

// controlChars maps opcodes to indices of termios.c_cc. VDSUSP (11), VFLUSH
// (15) and VSTATUS (17) do not exist on Linux.
var controlChars = map[uint8]int{
	1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL,
	5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2, 8: unix.VSTART,
	9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE,
	14: unix.VLNEXT, 16: unix.VSWTC, 18: unix.VDISCARD,
}

// A modeFlag is where an opcode's bit lives.
type modeFlag struct {
	word termWord
	bit  uint32
}

type termWord int

const (
	iflag termWord = iota
	oflag
	cflag
	lflag
)

var modeFlags = map[uint8]modeFlag{
	30: {iflag, unix.IGNPAR}, 31: {iflag, unix.PARMRK}, 32: {iflag, unix.INPCK},
	33: {iflag, unix.ISTRIP}, 34: {iflag, unix.INLCR}, 35: {iflag, unix.IGNCR},
	36: {iflag, unix.ICRNL}, 37: {iflag, unix.IUCLC}, 38: {iflag, unix.IXON},
	39: {iflag, unix.IXANY}, 40: {iflag, unix.IXOFF}, 41: {iflag, unix.IMAXBEL},
	42: {iflag, unix.IUTF8}, // RFC 8160

	50: {lflag, unix.ISIG}, 51: {lflag, unix.ICANON}, 52: {lflag, unix.XCASE},
	53: {lflag, unix.ECHO}, 54: {lflag, unix.ECHOE}, 55: {lflag, unix.ECHOK},
	56: {lflag, unix.ECHONL}, 57: {lflag, unix.NOFLSH}, 58: {lflag, unix.TOSTOP},
	59: {lflag, unix.IEXTEN}, 60: {lflag, unix.ECHOCTL}, 61: {lflag, unix.ECHOKE},
	62: {lflag, unix.PENDIN},

	70: {oflag, unix.OPOST}, 71: {oflag, unix.OLCUC}, 72: {oflag, unix.ONLCR},
	73: {oflag, unix.OCRNL}, 74: {oflag, unix.ONOCR}, 75: {oflag, unix.ONLRET},

	92: {cflag, unix.PARENB}, 93: {cflag, unix.PARODD},
}

// speeds are the line rates that termios can name (Bxxx).
var speeds = map[uint32]uint32{
	50: unix.B50, 75: unix.B75, 110: unix.B110, 134: unix.B134, 150: unix.B150,
	200: unix.B200, 300: unix.B300, 600: unix.B600, 1200: unix.B1200,
	1800: unix.B1800, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600,
	19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600,
	115200: unix.B115200, 230400: unix.B230400, 460800: unix.B460800,
	500000: unix.B500000, 921600: unix.B921600, 1000000: unix.B1000000,
	2000000: unix.B2000000, 4000000: unix.B4000000,
}

// applyMode sets one opcode; unknown ones and speeds that have no name are
// ignored, as RFC 4254 §8 wants.
func applyMode(tio *unix.Termios, op uint8, arg uint32) {
	switch op {
	case opEnd:
		return
	case 90, 91: // CS7, CS8
		size := uint32(unix.CS7)
		if op == 91 {
			size = unix.CS8
		}
		if arg != 0 {
			tio.Cflag = tio.Cflag&^unix.CSIZE | size
		}
		return
	case opISpeed, opOSpeed:
		if rate, ok := speeds[arg]; ok {
			// Linux keeps one rate in c_cflag unless CIBAUD names another.
			tio.Cflag = tio.Cflag&^unix.CBAUD | rate
		}
		return
	}
	if i, ok := controlChars[op]; ok {
		tio.Cc[i] = byte(arg)
		if arg == disabledChar {
			tio.Cc[i] = 0 // _POSIX_VDISABLE
		}
		return
	}
	f, ok := modeFlags[op]
	if !ok {
		return
	}
	word := map[termWord]*uint32{iflag: &tio.Iflag, oflag: &tio.Oflag, cflag: &tio.Cflag, lflag: &tio.Lflag}[f.word]
	if arg != 0 {
		*word |= f.bit
	} else {
		*word &^= f.bit
	}
}
