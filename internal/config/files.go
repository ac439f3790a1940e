package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
)

// hasCertificate reports whether file has a certificate.
func hasCertificate(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(text)
}

// isKeyPair reports whether the key in one file belongs to the certificate in the other.
func isKeyPair(certificate, key string) bool {
	_, err := tls.LoadX509KeyPair(certificate, key)
	return err == nil
}

// hasCredentials reports whether file looks like credentials that nsc writes.
func hasCredentials(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && bytes.Contains(text, []byte("BEGIN NATS USER JWT")) && bytes.Contains(text, []byte("BEGIN USER NKEY SEED"))
}
