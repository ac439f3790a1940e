package infra

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates for one test.
type Authority struct {
	File string // its own certificate

	t           testing.TB
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	issued      int64
}

// NewAuthority makes a new authority, which no program trusts yet.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, folder: t.TempDir()}
	a.certificate = &x509.Certificate{
		Subject: pkix.Name{CommonName: "the authority of " + t.Name()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.File, _, a.key = a.issue(a.certificate)
	return a
}

// Server issues a certificate for a server. The certificate is for 127.0.0.1 only.
func (a *Authority) Server() (certificate, key string) {
	a.t.Helper()
	certificate, key, _ = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return certificate, key
}

// Client issues a certificate for a client.
func (a *Authority) Client(name string) (certificate, key string) {
	a.t.Helper()
	certificate, key, _ = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return certificate, key
}

// issue signs a certificate, and writes the certificate and its key into files. The first certificate, the authority's, signs itself.
func (a *Authority) issue(wanted *x509.Certificate) (certificateFile, keyFile string, key *ecdsa.PrivateKey) {
	a.t.Helper()
	a.issued++
	wanted.SerialNumber = big.NewInt(a.issued)
	wanted.NotBefore, wanted.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, wanted, a.certificate, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(name, kind string, bytes []byte) string {
		file := filepath.Join(a.folder, big.NewInt(a.issued).String()+name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return file
	}
	return write(".crt", "CERTIFICATE", signed), write(".key", "PRIVATE KEY", private), key
}
