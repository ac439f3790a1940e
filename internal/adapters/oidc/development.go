package oidc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// The files of a DevelopmentKey, in its folder.
const (
	privateKeyFile = "auth-key.json"  // only its user may read it
	KeySetFile     = "auth-jwks.json" // the public key, for AUTH_JWKS_FILE
)

// DevelopmentKey signs tokens, in place of an issuer, for people who try the service.
type DevelopmentKey struct {
	id     string
	secret *ecdsa.PrivateKey
}

// MakeDevelopmentKey returns the key in a folder. If there is none, MakeDevelopmentKey stores a new one, which only this user can read. It also
// stores the public key in KeySetFile.
func MakeDevelopmentKey(folder string) (*DevelopmentKey, error) {
	file := filepath.Join(folder, privateKeyFile)
	key, err := readDevelopmentKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := storeDevelopmentKey(file); err != nil {
			return nil, fmt.Errorf("the key cannot be kept: %w", err)
		}
		key, err = readDevelopmentKey(file) // if another process has stored its key meanwhile, this is that key
	}
	if err != nil {
		return nil, err
	}
	return key, key.publish(filepath.Join(folder, KeySetFile))
}

func readDevelopmentKey(file string) (*DevelopmentKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("other users may read %s: delete the file, and a new key is made; or chmod 600 it", file)
	}
	read, err := jwkset.NewJWKFromRawJSON(text, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a key: delete the file, and a new key is made (%w)", file, err)
	}
	secret, ok := read.Key().(*ecdsa.PrivateKey)
	if !ok || secret.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s does not hold a key for ES256: delete the file, and a new key is made", file)
	}
	return &DevelopmentKey{id: read.Marshal().KID, secret: secret}, nil
}

func storeDevelopmentKey(file string) error {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	made, err := jwkset.NewJWKFromKey(secret, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{KID: "development-" + strings.ToLower(rand.Text()[:8]), USE: jwkset.UseSig, ALG: jwkset.AlgES256},
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(made.Marshal())
	if err != nil {
		return err
	}
	return createWhole(file, text)
}

// createWhole creates the file with its whole content at once, unless another process has created it.
func createWhole(file string, text []byte) error {
	folder := filepath.Dir(file)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // the data folder: other users' servers have theirs in it
		return err
	}
	hidden, err := os.CreateTemp(folder, ".auth-key-*") // for this user alone
	if err != nil {
		return err
	}
	defer os.Remove(hidden.Name())
	_, err = hidden.Write(append(text, '\n'))
	if err = errors.Join(err, hidden.Close()); err != nil {
		return err
	}
	if err := os.Link(hidden.Name(), file); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// publish writes the public key into a file, unless the file has it. Other users may read it, also containers, which have the file itself.
func (k *DevelopmentKey) publish(file string) error {
	public, err := jwkset.NewJWKFromKey(&k.secret.PublicKey, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: k.id, USE: jwkset.UseSig, ALG: jwkset.AlgES256},
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{public.Marshal()}})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if published, err := os.ReadFile(file); err != nil || !bytes.Equal(published, text) {
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // a public key
			return err
		}
	}
	return os.Chmod(file, 0o644) //nolint:gosec // a public key, whatever the umask is
}

// TokenRequest says which token to make.
type TokenRequest struct {
	Issuer, Audience string
	CustomerClaim    string // the claim that gets the principal's customer
	Principal        order.Principal
	Scope            operations.Scope // of an operator, who has the principal's ID; empty: the token is not for an operator
	Lifetime         time.Duration
}

// Sign makes a token that is valid from now on.
func (k *DevelopmentKey) Sign(request TokenRequest, now time.Time) (string, error) {
	var granted []string
	for _, permission := range request.Principal.Permissions {
		granted = append(granted, string(permission))
	}
	if request.Scope != "" {
		granted = append(granted, request.Scope.Claim())
	}
	claims := jwt.MapClaims{
		"iss": request.Issuer, "aud": request.Audience, "sub": request.Principal.ID, "scope": strings.Join(granted, " "),
		"iat": now.Unix(), "exp": now.Add(request.Lifetime).Unix(), "jti": rand.Text(),
	}
	if request.Principal.Customer != "" {
		claims[request.CustomerClaim] = string(request.Principal.Customer)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = k.id
	return token.SignedString(k.secret)
}
