package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"golang.org/x/time/rate"
)

const (
	fetchTimeout = 5 * time.Second // for the document of the issuer and for its keys together
	minRSABits   = 2048

	// refreshInterval is how old the keys become, so that a key which the issuer withdraws is not used much longer.
	refreshInterval = 15 * time.Minute
	// firstRetry is the wait after the first failure as long as there are no keys. It doubles with every further failure, up to unknownInterval.
	firstRetry = time.Second
	// unknownInterval is the least time between two reads of the key set because of unknown keys: clients decide how many such tokens come.
	unknownInterval = 10 * time.Second
)

// key is a public key of the issuer.
type key struct {
	id        string
	algorithm string // the only one that the key is for
	public    any
}

// keySet has the keys of the issuer, and reads them again when they may have changed.
type keySet struct {
	read    func(ctx context.Context) ([]key, error)
	unknown *rate.Limiter // bounds the reads because of unknown keys

	reading sync.Mutex // held while the key set is read
	mu      sync.RWMutex
	keys    []key // nil: never read
}

func newKeySet(read func(ctx context.Context) ([]key, error)) *keySet {
	return &keySet{read: read, unknown: rate.NewLimiter(rate.Every(unknownInterval), 1)}
}

// refresh reads the keys. If that fails, the present keys stay in use.
func (s *keySet) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, err := s.read(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
	return nil
}

// find returns the keys with which a token may be signed. If the id is empty, these are all keys for the algorithm. If there is no such key,
// find reads the key set again, unless it did so a short time ago. known is false if the keys were never read.
func (s *keySet) find(ctx context.Context, id, algorithm string) (found []key, known bool) {
	if found, known = s.lookUp(id, algorithm); len(found) > 0 {
		return found, known
	}
	s.reading.Lock() // a request that comes while another one reads the keys waits for them
	defer s.reading.Unlock()
	if found, known = s.lookUp(id, algorithm); len(found) > 0 || !s.unknown.Allow() {
		return found, known
	}
	// A caller that goes away must not use up the only read of the next seconds. If the read fails, the key stays unknown; run reports the outage.
	_ = s.refresh(context.WithoutCancel(ctx))
	return s.lookUp(id, algorithm)
}

func (s *keySet) lookUp(id, algorithm string) (found []key, known bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.keys {
		if k.algorithm == algorithm && (id == "" || id == k.id) {
			found = append(found, k)
		}
	}
	return found, s.keys != nil
}

// fromFile returns a function that reads the key set in a file.
func fromFile(file string) func(context.Context) ([]key, error) {
	return func(context.Context) ([]key, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return parse(text)
	}
}

// fromURL returns a function that fetches the key set.
func fromURL(address string, client *http.Client) func(context.Context) ([]key, error) {
	return func(ctx context.Context) ([]key, error) {
		text, err := fetch(ctx, client, address)
		if err != nil {
			return nil, err
		}
		return parse(text)
	}
}

var errNoKey = errors.New("the key set has no key that can be used: RS256 with at least 2048 bits, ES256 or EdDSA")

// parse returns the usable keys of a JSON Web Key Set. It leaves out all others: an issuer may have keys for other purposes.
func parse(text []byte) ([]key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	var keys []key
	for _, published := range set.Keys {
		published.X5U, published.X5C, published.X5T, published.X5TS256 = "", nil, "", "" // only the key itself counts
		read, err := jwkset.NewJWKFromMarshal(published, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || published.USE != "" && published.USE != jwkset.UseSig {
			continue
		}
		algorithm := algorithmOf(read.Key())
		if algorithm == "" || published.ALG != "" && published.ALG.String() != algorithm {
			continue
		}
		keys = append(keys, key{id: published.KID, algorithm: algorithm, public: read.Key()})
	}
	if len(keys) == 0 {
		return nil, errNoKey
	}
	return keys, nil
}

// algorithmOf returns the algorithm for which a public key is used, or an empty string.
func algorithmOf(public any) string {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() >= minRSABits {
			return "RS256"
		}
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			return "ES256"
		}
	case ed25519.PublicKey:
		return "EdDSA"
	}
	return ""
}
