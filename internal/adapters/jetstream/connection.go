// Package jetstream serves the ports that need NATS JetStream: the publisher appends to the stream by compare-and-swap, the reader reads it
// for a subscriber, and the notifier wakes the relays of other instances. Connect with Connect, and make the ports with the New functions,
// or with Module in an fx graph. A file's name begins with the port that the file serves: relay, inbox or operations.
package jetstream

import (
	"context"
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

// These limits decide when a connection counts as dead, and how soon the client connects again. A stalled write fails after writeTimeout.
// If the server sends nothing, the client gives the connection up after pingInterval * (pingsUnanswered + 1).
const (
	dialTimeout     = 2 * time.Second
	writeTimeout    = 5 * time.Second
	pingInterval    = 5 * time.Second
	pingsUnanswered = 2
	firstReconnect  = 10 * time.Millisecond
	reconnectWait   = 100 * time.Millisecond
)

// reconnectDelay returns how long the client waits before it tries all servers again. try is the number of the try since the connection was
// lost, from 1 on. The first waits are short, so that a leader whose connection was cut is back before a follower takes its lease (see
// app/relaying). A random part makes the waits different, so that not all clients come back to the broker at once.
func reconnectDelay(try int) time.Duration {
	wait := min(firstReconnect<<min(try-1, 10), reconnectWait)
	return wait + rand.N(wait) //nolint:gosec // no secret
}

// Options says how to reach the broker.
type Options struct {
	URL    string // one or more, separated by commas; credentials may be part of it
	Name   string // the connection's name at the broker: the instance's id
	Logger *slog.Logger

	Creds     string // file with the user's JWT and seed; empty: none
	CA        string // file of the certificates that verify the broker's certificate; with it, only TLS connections are made; empty: none
	Cert, Key string // files of the client's certificate and of its key; they are read again for each connection; empty: none

	// InboxPrefix is the beginning of the subjects on which answers and deliveries come. A user who may subscribe to these subjects can
	// read them. If it is empty, the prefix is _INBOX, followed by the user's name if the URL has one. So each user can have a prefix that
	// no other user may read.
	InboxPrefix string
}

// Connect returns a connection that reconnects for ever. It succeeds even if the broker cannot be reached, so that an instance starts
// without the broker. Calls fail at once with a fault.Unavailable while there is no connection, because nothing is buffered. A buffered
// message would be sent after the reconnect, when the engine has already given it up.
func Connect(o Options) (*nats.Conn, error) {
	l := &connectionLog{Options: o}
	nc, err := nats.Connect(o.URL, append(o.security(),
		nats.Name(o.Name),
		nats.CustomInboxPrefix(o.inboxPrefix()),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsUnanswered),
		nats.ConnectHandler(l.connected),
		nats.DisconnectErrHandler(l.disconnected),
		nats.ReconnectHandler(l.reconnected),
		nats.ReconnectErrHandler(l.unreachable),
		nats.ErrorHandler(l.failed),
	)...)
	if err != nil {
		return nil, connectError(o.URL, err)
	}
	if !nc.IsConnected() {
		warnUnreachable(o, nc.LastError())
	}
	return nc, nil
}

// warnUnreachable logs that there is no connection yet. The client does not know a reason while its first attempt to connect again goes on.
func warnUnreachable(o Options, reason error) {
	attributes := []any{"url", redacted(o.URL)}
	if reason != nil {
		attributes = append(attributes, "error", reason)
	}
	o.Logger.Warn("NATS cannot be reached yet; trying again until it can", attributes...)
}

// connectionLog logs what happens to a connection.
type connectionLog struct {
	Options
	logged sync.Map // the errors since the last connection, so that each is logged only once
}

func (l *connectionLog) connected(nc *nats.Conn) {
	l.logged.Clear()
	l.Logger.Info("connected to NATS", "url", connectedTo(nc), "server", nc.ConnectedServerName())
	if l.openToAll(nc.AuthRequired(), nc.ConnectedAddr()) {
		l.Logger.Warn("NATS accepts clients without credentials, so every client can read every event, and can publish events that "+
			"subscribers apply: give NATS users, for example docker/nats-permissions.conf", "url", connectedTo(nc))
	}
}

func (l *connectionLog) disconnected(nc *nats.Conn, err error) {
	if !nc.IsClosed() {
		l.Logger.Warn("lost the connection to NATS", "error", err)
	}
}

func (l *connectionLog) reconnected(nc *nats.Conn) {
	l.logged.Clear()
	l.Logger.Info("reconnected to NATS", "url", connectedTo(nc), "server", nc.ConnectedServerName())
}

func (l *connectionLog) unreachable(_ *nats.Conn, err error) {
	if err == nil { // the client has connected meanwhile, which sets err to nil
		return
	}
	if _, known := l.logged.LoadOrStore(err.Error(), true); !known {
		l.Logger.Warn("NATS cannot be reached", "error", err)
	}
}

func (l *connectionLog) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) { // a denied call may be tried ten times a second
		if _, known := l.logged.LoadOrStore(err.Error(), true); known {
			return
		}
		if prefix := l.inboxPrefix(); strings.Contains(err.Error(), `Subscription to "`+prefix+`.`) {
			l.Logger.Error("NATS does not let us subscribe to the subjects of our answers, so no request succeeds: allow this user to "+
				"subscribe to them, or set NATS_INBOX_PREFIX to what it may subscribe to", "subjects", prefix+".>", "error", err)
			return
		}
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.Logger.Warn("NATS reported an error", "error", err, "subject", subject)
}

// security returns the options by which the client shows who it is and checks the broker.
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

// inboxPrefix returns InboxPrefix. If InboxPrefix is empty, it returns _INBOX, followed by the user's name if the URL has one. Such a prefix
// is below _INBOX, so a user who may subscribe to _INBOX.> needs no other right.
func (o Options) inboxPrefix() string {
	if o.InboxPrefix != "" {
		return o.InboxPrefix
	}
	first, _, _ := strings.Cut(o.URL, ",")
	address, err := url.Parse(strings.TrimSpace(first))
	if err != nil || address.User == nil {
		return "_INBOX"
	}
	// A user's name without a password is a token, which is secret.
	if _, password := address.User.Password(); !password || !validSubscriber.MatchString(address.User.Username()) {
		return "_INBOX"
	}
	return "_INBOX." + address.User.Username()
}

// openToAll reports whether the server accepts clients without credentials. It returns false for a server on this machine's loopback
// address, because such a server is for trying things out.
func (o Options) openToAll(authRequired bool, address string) bool {
	host, _, err := net.SplitHostPort(address)
	return !authRequired && o.Cert == "" && err == nil && !net.ParseIP(host).IsLoopback()
}

// connectError distinguishes a URL that can never work from a broker that cannot be reached at the moment.
func connectError(servers string, err error) error {
	for server := range strings.SplitSeq(servers, ",") {
		var bad *url.Error // its text has the URL, and so the password
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

// connectedTo returns the server's address for the log. The library hides passwords, but not tokens: a URL has its token where other URLs
// have the user's name.
func connectedTo(nc *nats.Conn) string {
	address, err := url.Parse(nc.ConnectedUrlRedacted())
	if err != nil {
		return ""
	}
	return address.Scheme + "://" + address.Host
}

// flushTimeout limits how long Disconnect waits until the last writes have been sent.
const flushTimeout = time.Second

// Disconnect closes nc after the last writes have been sent: a wake-up call or a retry. Everything else was acknowledged when its call
// returned.
func Disconnect(ctx context.Context, nc *nats.Conn) {
	if nc.IsConnected() {
		flushing, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		_ = nc.FlushWithContext(flushing)
	}
	nc.Close()
}
