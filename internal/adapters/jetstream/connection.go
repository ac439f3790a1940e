// Package jetstream serves the ports that need NATS JetStream: the publisher that appends to the stream by compare-and-swap, the reader of
// each subscriber, and the notifier that wakes other instances' relays. Connect with Connect, and make the ports with the New functions,
// or with Module in an fx graph. A file's name begins with the port that it serves: relay, inbox or operations.
package jetstream

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// How the connection notices that it is dead, and comes back. A stalled write fails after writeTimeout, a silent peer is
// given up after pingInterval * (pingsUnanswered + 1).
const (
	dialTimeout     = 2 * time.Second
	writeTimeout    = 5 * time.Second
	pingInterval    = 5 * time.Second
	pingsUnanswered = 2
	firstReconnect  = 10 * time.Millisecond
	reconnectWait   = 100 * time.Millisecond
)

// reconnectDelay is how long the client waits before it tries all servers once more, counted from 1 since the connection was
// lost. The first tries are quick, so that a leader whose connection was cut is back before a follower takes its lease (see
// app/relaying). Each wait is spread, so that a broker that comes back does not meet all clients at once.
func reconnectDelay(try int) time.Duration {
	wait := min(firstReconnect<<min(try-1, 10), reconnectWait)
	return wait + rand.N(wait) //nolint:gosec // no secret
}

// Options says how to reach the broker.
type Options struct {
	URL    string // one or more, separated by commas; credentials may be part of it
	Name   string // what the broker calls this connection: the instance's id
	Logger *slog.Logger

	Creds     string // file with the user's JWT and seed; empty: none
	CA        string // file of the certificates that the broker's is checked by: without TLS there is no connection then; empty: none
	Cert, Key string // files of the client's certificate and its key, read again for each connection; empty: none

	// InboxPrefix begins the subjects on which answers and deliveries come. A user who may subscribe there reads them. Empty: _INBOX,
	// and the user's name if the URL has it, so that each user may be given a prefix that no other user may read.
	InboxPrefix string
}

// Connect returns a connection that reconnects for ever. It succeeds while the broker cannot be reached, so that an
// instance starts without it; calls made meanwhile fail at once with a fault.Unavailable, because nothing is buffered for
// later: a message sent after a reconnect would be one that the engine has given up already.
func Connect(o Options) (*nats.Conn, error) {
	logger, prefix := o.Logger, o.inboxPrefix()
	var told sync.Map // why the broker could not be reached, and what it denied, since the last connection: each is logged once
	nc, err := nats.Connect(o.URL, append(o.security(),
		nats.Name(o.Name),
		nats.CustomInboxPrefix(prefix),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsUnanswered),
		nats.ConnectHandler(func(nc *nats.Conn) {
			told.Clear()
			logger.Info("connected to NATS", "url", connectedTo(nc), "server", nc.ConnectedServerName())
			if o.openToAll(nc.AuthRequired(), nc.ConnectedAddr()) {
				logger.Warn("NATS asks nobody who they are: whoever reaches it reads every event and can publish events that subscribers "+
					"apply. Give it users, for example docker/nats-permissions.conf", "url", connectedTo(nc))
			}
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return
			}
			logger.Warn("lost the connection to NATS", "error", err)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			told.Clear()
			logger.Info("reconnected to NATS", "url", connectedTo(nc), "server", nc.ConnectedServerName())
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil { // the client may have another one by now
				return
			}
			if _, known := told.LoadOrStore(err.Error(), true); !known {
				logger.Warn("NATS cannot be reached", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) { // what is denied may be tried ten times a second
				if _, known := told.LoadOrStore(err.Error(), true); known {
					return
				}
				if strings.Contains(err.Error(), `Subscription to "`+prefix+`.`) {
					logger.Error("NATS does not let us subscribe to the subjects of our answers, so no request succeeds: allow this user to "+
						"subscribe to them, or set NATS_INBOX_PREFIX to what it may subscribe to", "subjects", prefix+".>", "error", err)
					return
				}
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			logger.Warn("NATS reported an error", "error", err, "subject", subject)
		}),
	)...)
	if err != nil {
		return nil, connectError(o.URL, err)
	}
	if !nc.IsConnected() {
		logger.Warn("NATS cannot be reached yet; trying again until it can", "url", redacted(o.URL), "error", nc.LastError())
	}
	return nc, nil
}

// security is how the client shows who it is, and wants the broker to.
func (o Options) security() (options []nats.Option) {
	if o.Creds != "" {
		options = append(options, nats.UserCredentials(o.Creds))
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	return options
}

// inboxPrefix returns the prefix that was asked for, or one of the user's own. It lies below _INBOX, so that a user who may
// subscribe to _INBOX.> goes on working.
func (o Options) inboxPrefix() string {
	if o.InboxPrefix != "" {
		return o.InboxPrefix
	}
	first, _, _ := strings.Cut(o.URL, ",")
	address, err := url.Parse(strings.TrimSpace(first))
	if err != nil || address.User == nil {
		return "_INBOX"
	}
	// Without a password the user's name is a token, which is secret.
	if _, password := address.User.Password(); !password || !validSubscriber.MatchString(address.User.Username()) {
		return "_INBOX"
	}
	return "_INBOX." + address.User.Username()
}

// openToAll reports whether anybody who reaches the server may do anything. A server on this machine's loopback is for trying
// things out.
func (o Options) openToAll(authRequired bool, address string) bool {
	host, _, err := net.SplitHostPort(address)
	return !authRequired && o.Cert == "" && err == nil && !net.ParseIP(host).IsLoopback()
}

// connectError distinguishes a URL that can never work from a broker that refuses us today.
func connectError(servers string, err error) error {
	for server := range strings.SplitSeq(servers, ",") {
		var bad *url.Error // its text quotes the URL, and with it the password
		if _, unreadable := url.Parse(strings.TrimSpace(server)); errors.As(unreadable, &bad) {
			return fault.New(fault.Invalid, "invalid_nats_url", "NATS_URL cannot be read: %v", bad.Err)
		}
	}
	return ErrUnavailable.With("cannot connect to NATS at %s", redacted(servers)).Wrap(err)
}

// redacted hides passwords and tokens.
func redacted(servers string) string {
	var shown []string
	for server := range strings.SplitSeq(servers, ",") {
		parsed, err := url.Parse(strings.TrimSpace(server))
		if err != nil {
			shown = append(shown, "(unreadable)")
			continue
		}
		if parsed.User != nil {
			parsed.User = url.User("xxxxx")
		}
		shown = append(shown, parsed.String())
	}
	return strings.Join(shown, ",")
}

// connectedTo returns the server's address for the log. The library hides passwords, but not a token, which stands where users do.
func connectedTo(nc *nats.Conn) string {
	address, err := url.Parse(nc.ConnectedUrlRedacted())
	if err != nil {
		return ""
	}
	return address.Scheme + "://" + address.Host
}
