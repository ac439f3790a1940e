package config

import (
	"net"
	"net/url"
	"os"
	"strings"
)

// AuthOff is the AUTH of an API that does not ask who sends requests, although it listens beyond loopback.
const AuthOff = "off"

// On reports whether the API asks who sends requests.
func (a Auth) On() bool { return a.Issuer != "" }

func authSetting(name Name, accepts string, ok func(Auth) bool) setting {
	return setting{name: name, accepts: accepts, ok: func(c Config) bool { return ok(c.Auth) }}
}

func (a Auth) modeOK() bool {
	return a.Mode == "" || a.Mode == AuthOff && a.Issuer+a.Audience+a.KeysURL+a.KeysFile == ""
}

func (a Auth) issuerOK() bool {
	if a.Issuer == "" {
		return a.Audience+a.KeysURL+a.KeysFile == ""
	}
	return identifier(a.Issuer) && (a.KeysURL+a.KeysFile != "" || discoverable(a.Issuer))
}

// discoverable reports whether the keys of an issuer with this name can be discovered: the name is the address of the issuer, and only the issuer
// can answer there.
func discoverable(issuer string) bool {
	address, err := url.Parse(issuer)
	if err != nil || address.Hostname() == "" || address.User != nil || strings.ContainsAny(issuer, "?#") {
		return false
	}
	return address.Scheme == "https" || address.Scheme == "http" && loopbackHost(address.Hostname())
}

func (a Auth) audienceOK() bool {
	return a.Issuer == "" || identifier(a.Audience)
}

func (a Auth) keysURLOK() bool {
	if a.KeysURL == "" {
		return true
	}
	parsed, err := url.Parse(a.KeysURL)
	return err == nil && (parsed.Scheme == "https" || parsed.Scheme == "http") && parsed.Host != "" && parsed.User == nil && a.KeysFile == ""
}

func (a Auth) keysFileOK() bool {
	if a.KeysFile == "" {
		return true
	}
	info, err := os.Stat(a.KeysFile)
	return err == nil && info.Mode().IsRegular() && a.KeysURL == ""
}

func (a Auth) customerClaimOK() bool { return identifier(a.CustomerClaim) }

// CheckAccess returns an *Error if others than this machine reach the API, it does not ask who sends requests, and AUTH does not say that this
// is wanted.
func (c Config) CheckAccess() error {
	if c.Auth.On() || c.Auth.Mode == AuthOff || onLoopback(c.HTTP.Addr) {
		return nil
	}
	return &Error{Problems: []Problem{{AuthMode, "AUTH is not set, and other machines reach HTTP_ADDR " + c.HTTP.Addr + ": set AUTH_ISSUER " +
		"and AUTH_AUDIENCE, so that requests need a token; or AUTH=off, if everybody who reaches it may place, change and read all orders"}}}
}

// onLoopback reports whether only this machine reaches an address.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
