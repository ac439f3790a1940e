package config

import (
	"net/http"
	"regexp"
)

// hostName is a name as it stands in a Host header, or * for any.
var hostName = regexp.MustCompile(`^(\*|[A-Za-z0-9]([A-Za-z0-9._-]{0,252}))$`)

func areHosts(list List) bool {
	for _, host := range list {
		if !hostName.MatchString(host) {
			return false
		}
	}
	return true
}

// areOrigins reports whether the library that checks origins can use them.
func areOrigins(list List) bool {
	protection := http.NewCrossOriginProtection()
	for _, origin := range list {
		if protection.AddTrustedOrigin(origin) != nil {
			return false
		}
	}
	return true
}
