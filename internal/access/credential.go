//go:build linux

package access

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// A credential is what grants are looked up by. Of a secret only its hash is
// ever there; of a key the hash is enough, and does not tell by its length in
// how many steps it was compared.
type credential struct {
	secret bool
	sum    [sha256.Size]byte
}

// keyCredential is the credential of a public key in SSH's wire format.
func keyCredential(blob []byte) credential {
	return credential{sum: sha256.Sum256(blob)}
}

// secretCredential is the credential of a secret itself.
func secretCredential(secret string) credential {
	return credential{secret: true, sum: sha256.Sum256([]byte(secret))}
}

// equal takes the same time whatever differs.
func (c credential) equal(other credential) bool {
	return c.secret == other.secret && subtle.ConstantTimeCompare(c.sum[:], other.sum[:]) == 1
}

// fingerprint is that of a key, as `ssh-keygen -l` prints it.
func (c credential) fingerprint() string {
	if c.secret {
		return ""
	}
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(c.sum[:])
}

// keyAlgorithms are the types of keys that are let in. DSA is broken, and a
// certificate is not a key: what it says would have to be checked as well.
var keyAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519,
	ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
	ssh.KeyAlgoRSA,
}

// Bounds of a key. A longer modulus only makes verifying slow.
const (
	maxKeyBytes = 8 << 10
	minRSABits  = 2048
	maxRSABits  = 8192
)

// parseKey checks a public key and returns it in its one canonical form, in
// which the SSH door will ask for it.
func parseKey(blob []byte) (canonical []byte, algorithm string, err error) {
	malformed := func(format string, args ...any) ([]byte, string, error) {
		return nil, "", &GrantError{"Key", fmt.Sprintf(format, args...)}
	}
	if len(blob) > maxKeyBytes {
		return malformed("%d bytes are more than %d", len(blob), maxKeyBytes)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return malformed("is not a public key in SSH's wire format")
	}
	if !slices.Contains(keyAlgorithms, key.Type()) {
		return malformed("keys of type %s are not accepted", key.Type())
	}
	if crypto, ok := key.(ssh.CryptoPublicKey); ok {
		if modulus, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok {
			if bits := modulus.N.BitLen(); bits < minRSABits || bits > maxRSABits {
				return malformed("RSA of %d bits is not accepted, only of %d to %d", bits, minRSABits, maxRSABits)
			}
		}
	}
	return key.Marshal(), key.Type(), nil
}
