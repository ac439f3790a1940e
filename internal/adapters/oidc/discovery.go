package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxAnswer    = 1 << 20 // bytes of an answer of the issuer
	maxRedirects = 3
)

// discovered returns a function that asks the issuer where its key set is, and fetches the key set from there. The function asks each time, so it
// follows the key set to a new address. discovered fails if the issuer's name is not a URL that it may ask.
func discovered(issuer string, client *http.Client) (func(context.Context) ([]key, error), error) {
	places, err := discoveryAddresses(issuer)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]key, error) {
		text, err := fetchDocument(ctx, client, places)
		if err != nil {
			return nil, err
		}
		address, err := keysAddress(text, issuer)
		if err != nil {
			return nil, err
		}
		return fromURL(address, client)(ctx)
	}, nil
}

// discoveryAddresses returns where an issuer's document may be: first the address of OpenID Connect Discovery, then that of RFC 8414.
func discoveryAddresses(issuer string) ([2]string, error) {
	parsed, err := url.Parse(issuer)
	if err != nil || !trusted(parsed) || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" {
		return [2]string{}, fmt.Errorf("the keys of the issuer %q cannot be discovered: its name must be an https URL without a query "+
			"(or http on this machine); or set AUTH_JWKS_URL", issuer)
	}
	path := strings.TrimSuffix(parsed.EscapedPath(), "/")
	origin := parsed.Scheme + "://" + parsed.Host
	return [2]string{origin + path + "/.well-known/openid-configuration", origin + "/.well-known/oauth-authorization-server" + path}, nil
}

// fetchDocument fetches the document from the first address, or from the second one if there is none at the first.
func fetchDocument(ctx context.Context, client *http.Client, places [2]string) ([]byte, error) {
	text, err := fetch(ctx, client, places[0])
	if !errors.Is(err, errNotFound) {
		return text, err
	}
	if text, err = fetch(ctx, client, places[1]); errors.Is(err, errNotFound) {
		return nil, fmt.Errorf("the issuer has no document for discovery, neither %s nor %s: correct AUTH_ISSUER, or set AUTH_JWKS_URL", places[0], places[1])
	}
	return text, err
}

// keysAddress returns the address of the key set that the issuer's document names. The document must be about this very issuer: otherwise one
// issuer of a host could speak for another.
func keysAddress(text []byte, issuer string) (string, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return "", fmt.Errorf("the issuer's document for discovery is not valid: %w", err)
	}
	if document.Issuer != issuer {
		return "", fmt.Errorf("the document for discovery is about the issuer %.200q, and not about %q: set AUTH_ISSUER to the former, if its tokens have it as iss",
			document.Issuer, issuer)
	}
	address, err := url.Parse(document.Keys)
	if err != nil || !trusted(address) {
		return "", fmt.Errorf("the jwks_uri of the issuer's document is %.200q: it must be an https URL (or http on this machine); correct it at the issuer, or set AUTH_JWKS_URL",
			document.Keys)
	}
	return document.Keys, nil
}

// trusted reports whether what an address answers can come from its host only: over https, or over http from this machine.
func trusted(address *url.URL) bool {
	host := address.Hostname()
	local := strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
	return host != "" && address.User == nil && (address.Scheme == "https" || address.Scheme == "http" && local)
}

// sameHost lets a client follow redirects only to the host that it asked first, and never from https to http.
func sameHost(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if next.URL.Host != first.Host || first.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("the issuer redirects to another host, or away from https, which is not followed: set AUTH_ISSUER or AUTH_JWKS_URL to the final address")
	}
	if len(before) > maxRedirects {
		return fmt.Errorf("the issuer redirects more than %d times", maxRedirects)
	}
	return nil
}

var errNotFound = errors.New("404 Not Found")

// fetch returns what an address answers. It fails with errNotFound if there is nothing.
func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s answers %w", address, errNotFound)
	default:
		return nil, fmt.Errorf("%s answers %s", address, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s stops answering: %w", address, err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("%s answers more than %d bytes", address, maxAnswer)
	}
	return text, nil
}
