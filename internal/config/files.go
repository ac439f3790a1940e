package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
)

// certificates reports whether file has a certificate.
func hasCertificate(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(text)
}

// pair reports whether the key in one file belongs to the certificate in the other.
func isKeyPair(certificate, key string) bool {
	_, err := tls.LoadX509KeyPair(certificate, key)
	return err == nil
}

// credentials reports whether file looks like what nsc writes.
func hasCredentials(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && bytes.Contains(text, []byte("BEGIN NATS USER JWT")) && bytes.Contains(text, []byte("BEGIN USER NKEY SEED"))
}
