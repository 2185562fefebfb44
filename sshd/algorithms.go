//go:build linux

package sshd

import (
	"strings"

	"golang.org/x/crypto/ssh"
)

// algorithms returns what the server offers to a client: client is the name that
// its program gave, and offered what it offered itself, or nil if that is not
// known. Clients choose by their own order of preference. Two things are left out on purpose, besides all that is broken:
// chacha20-poly1305, which OpenSSH's client would prefer and which costs Go
// twice the time per byte, and MACs that are not encrypt-then-MAC. Without both
// there is nothing for the Terrapin attack (CVE-2023-48795) to hold on to, even
// where a client lacks strict key exchange.
//
// The clients to which the older MACs are offered have no others. With ctr they
// are sound, only not the better construction; and Terrapin needs
// encrypt-then-MAC with cbc, or chacha20-poly1305. Clients that take gcm, which
// needs no MAC, may still want one that both sides have.
//
// Ctr with its MAC takes twice the time of gcm. So it is not offered to a client
// that would prefer it but is known to take gcm as well.
func algorithms(client clientName, offered *offer) ssh.Config {
	gcm := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	etm := []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}
	old, ctr := client.lacksEncryptThenMAC(), true
	if offered != nil {
		old = !takesAny(offered.macs, etm)
		ctr = !client.prefersCTR() || !takesAny(offered.ciphers, gcm)
	}
	config := ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
		Ciphers:      gcm,
		MACs:         etm,
	}
	if ctr {
		config.Ciphers = append(config.Ciphers, ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR)
	}
	if old {
		config.MACs = append(config.MACs, ssh.HMACSHA256, ssh.HMACSHA512)
	}
	return config
}

// publicKeyAlgorithms are those of signatures by users' keys. The keys
// themselves have been chosen by package access.
func publicKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
	}
}

// dialect is the release of OpenSSH whose protocol is spoken here. Clients
// decide by that name in the banner what they may use: OpenSSH's own sends
// eow@openssh.com and no-more-sessions@openssh.com to nobody else, and others
// send the arguments of sftp's SYMLINK in OpenSSH's order only to it. The
// comment after it says who really is there.
const dialect = "OpenSSH_9.9"

// banner is the identification string of RFC 4253 §4.2.
func banner(version string) string {
	const limit = 64 // of 255 bytes in all
	printable := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, version)
	return "SSH-2.0-" + dialect + " guestd-" + printable[:min(limit, len(printable))]
}
