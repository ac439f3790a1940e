package jetstream

import (
	"net/url"

	"github.com/nats-io/nats.go"
)

// connectedTo returns the server's address for the log. The library hides passwords, but not a token, which stands where users do.
func connectedTo(nc *nats.Conn) string {
	address, err := url.Parse(nc.ConnectedUrlRedacted())
	if err != nil {
		return ""
	}
	return address.Scheme + "://" + address.Host
}
