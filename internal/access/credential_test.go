//go:build linux

package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"golang.org/x/crypto/ssh"
)

// rsaBlob is an RSA public key on the wire, of a modulus with so many bits.
// Whoever made it need not know its factors.
func rsaBlob(t testing.TB, bits int) []byte {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
	return wireKey(t, &rsa.PublicKey{N: n, E: 65537})
}

// skBlob is a key of a security token, for an application.
func skBlob(t testing.TB, kind string) []byte {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Marshal(struct {
		Name        string
		Key         []byte
		Application string
	}{kind, public, "ssh:"})
}

func TestKeyTypes(t *testing.T) {
	s, _ := newStore(t, Config{})
	grantOf := func(key []byte) (string, error) {
		info, err := s.Grant(Grant{Key: key})
		return info.KeyType, err
	}
	for want, curve := range map[string]elliptic.Curve{
		ssh.KeyAlgoECDSA256: elliptic.P256(), ssh.KeyAlgoECDSA384: elliptic.P384(), ssh.KeyAlgoECDSA521: elliptic.P521(),
	} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if kind, err := grantOf(wireKey(t, &key.PublicKey)); kind != want || err != nil {
			t.Errorf("%s: %s, %v", want, kind, err)
		}
	}
	for _, bits := range []int{2048, 3072} {
		if kind, err := grantOf(rsaBlob(t, bits)); kind != ssh.KeyAlgoRSA || err != nil {
			t.Errorf("RSA %d: %s, %v", bits, kind, err)
		}
	}
	if kind, err := grantOf(skBlob(t, ssh.KeyAlgoSKED25519)); kind != ssh.KeyAlgoSKED25519 || err != nil {
		t.Errorf("sk: %s, %v", kind, err)
	}

	good := newKey(t)
	for name, key := range map[string][]byte{
		"RSA of 1024 bits":   rsaBlob(t, 1024),
		"RSA of 16384 bits":  rsaBlob(t, 16384),
		"a certificate":      certificate(t),
		"an unknown type":    skBlob(t, "ssh-nonsense"),
		"garbage":            []byte("ssh-ed25519 AAAA"),
		"something after it": append(bytes.Clone(good), 0),
		"half a key":         good[:len(good)/2],
		"too much":           make([]byte, maxKeyBytes+1),
	} {
		_, err := grantOf(key)
		var bad *GrantError
		if !errors.As(err, &bad) || bad.Field != "Key" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate is one that x/crypto can parse, on the wire.
func certificate(t testing.TB) []byte {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"ann"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return cert.Marshal()
}

// The fingerprint is the one that people compare.
func TestFingerprint(t *testing.T) {
	s, _ := newStore(t, Config{})
	blob := newKey(t)
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	if info := mustGrant(t, s, Grant{Key: blob}); info.Fingerprint != ssh.FingerprintSHA256(key) {
		t.Errorf("fingerprint %s of %s", info.Fingerprint, ssh.FingerprintSHA256(key))
	}
	if info := mustGrant(t, s, Grant{SecretHash: hashOf("x")}); info.Fingerprint != "" || info.KeyType != "" {
		t.Errorf("a secret has a fingerprint: %+v", info)
	}
}

// What is accepted is found again by the form in which an SSH server has it.
func FuzzKey(f *testing.F) {
	f.Add(newKey(f))
	f.Add(rsaBlob(f, 2048))
	f.Add(skBlob(f, ssh.KeyAlgoSKED25519))
	f.Add(certificate(f))
	f.Fuzz(func(t *testing.T, blob []byte) {
		canonical, _, err := parseKey(blob)
		if err != nil {
			var bad *GrantError
			if !errors.As(err, &bad) {
				t.Errorf("not a GrantError: %v", err)
			}
			return
		}
		key, err := ssh.ParsePublicKey(canonical)
		if err != nil || !bytes.Equal(key.Marshal(), canonical) {
			t.Errorf("not canonical: %v", err)
		}
	})
}
