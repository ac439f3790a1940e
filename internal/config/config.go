// Package config holds the configuration of the program. Commands make a Config with a Builder, and pass each adapter the options that the
// adapter declares; adapters do not import this package.
//
// A Builder reads, in rising order of precedence: defaults, environment variables, given flags, and code. It reports all errors at once.
// Nothing here prints a password or a token.
package config

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Config has every setting, in sections. The zero Config is not valid: start from Default or a Builder.
type Config struct {
	InstanceID string `env:"INSTANCE_ID"` // the name of this process: as holder of the lease, in logs and in traces
	Roles      Roles  `env:"OUTBOXIE_ROLES"`
	Database   Database
	NATS       NATS
	HTTP       HTTP
	Auth       Auth
	Stream     Stream
	Outbox     Outbox
	Subscriber Subscriber
	Personal   Personal
	Jaeger     Jaeger
	Log        Log
	Playground Playground

	built *buildInfo // nil if code made the Config; a pointer, so printing a Config never shows the content
}

// buildInfo records the sources from which a Builder made a Config.
type buildInfo struct {
	origins   map[Name]origin
	telemetry []Setting // OTEL_*, which the OpenTelemetry SDK reads by itself
	unknown   []string
}

// origin is the text of a setting at the time of Build, and its source ("" is the default).
type origin struct {
	text   string
	source Source
}

// Database says where Postgres is.
type Database struct {
	URL      URL `env:"DATABASE_URL"`       // empty: none given
	MaxConns int `env:"DATABASE_MAX_CONNS"` // the size of the pool of each process
}

// NATS says where the broker is, and how the program authenticates.
type NATS struct {
	URL   URL    `env:"NATS_URL"`      // one URL, or several of one cluster separated by commas
	Creds string `env:"NATS_CREDS"`    // file with a user's JWT and seed, as nsc writes it; empty: none
	CA    string `env:"NATS_TLS_CA"`   // file of the certificates that the server's certificate is checked with; TLS is then required
	Cert  string `env:"NATS_TLS_CERT"` // files of the client's certificate and its key; empty: none
	Key   string `env:"NATS_TLS_KEY"`

	// InboxPrefix is the beginning of the subjects on which the broker's answers come. Empty: _INBOX, and the user's name if the URL has one.
	InboxPrefix string `env:"NATS_INBOX_PREFIX"`
}

// HTTP says where the listeners are. Port 0 picks a free one.
type HTTP struct {
	Addr string `env:"HTTP_ADDR"` // the API
	// MaxConnections is how many connections the API has at a time.
	MaxConnections int `env:"HTTP_MAX_CONNECTIONS"`
	// Drain is how long the API still answers after SIGTERM, so that load balancers can notice.
	Drain     time.Duration `env:"HTTP_DRAIN"`
	AdminAddr string        `env:"ADMIN_ADDR"` // health, metrics, and the operators' routes
	// AdminToken is the token that operators need. Off: they need none. Empty: they need the token in TokenFile.
	AdminToken     Secret `env:"ADMIN_TOKEN"`
	AdminTokenFile string `env:"ADMIN_TOKEN_FILE"` // empty: admin-token in the data folder
	// AdminReadToken is a token with which operators may only read. It may also be in AdminReadFile. Both empty: there is no such token.
	AdminReadToken Secret `env:"ADMIN_READ_TOKEN"`
	AdminReadFile  string `env:"ADMIN_READ_TOKEN_FILE"`

	ConsolePayloads PayloadPolicy `env:"CONSOLE_PAYLOADS"` // whether the console shows payloads of events

	AllowedHosts      List `env:"HTTP_ALLOWED_HOSTS"`   // host names that requests to the API may name
	AdminAllowedHosts List `env:"ADMIN_ALLOWED_HOSTS"`  // host names that requests to the admin listener may name
	TrustedOrigins    List `env:"HTTP_TRUSTED_ORIGINS"` // origins whose pages may change orders, beside the API's own
	CORSOrigins       List `env:"HTTP_CORS_ORIGINS"`    // origins whose scripts may call the API
	TrustTraceparent  bool `env:"HTTP_TRUST_TRACEPARENT"`
	// RateLimit is how many requests a second each principal, and each address without a principal, may send on average. 0: any number.
	RateLimit int `env:"HTTP_RATE_LIMIT"`
}

// Auth says which tokens the API accepts. If Issuer is empty, the API does not ask who sends requests.
type Auth struct {
	Mode     string `env:"AUTH"` // AuthOff, or empty
	Issuer   string `env:"AUTH_ISSUER"`
	Audience string `env:"AUTH_AUDIENCE"`
	// KeysURL and KeysFile say where the issuer's keys are. One of them is given.
	KeysURL       string `env:"AUTH_JWKS_URL"`
	KeysFile      string `env:"AUTH_JWKS_FILE"`
	CustomerClaim string `env:"AUTH_CUSTOMER_CLAIM"` // the claim with the customer's id
}

// PayloadPolicy says whether the console shows payloads, which may have personal data.
type PayloadPolicy string

// The payload policies.
const (
	ShowPayloads PayloadPolicy = "on"  // the console shows a payload to people who ask for it
	HidePayloads PayloadPolicy = "off" // the console never shows a payload
)

// Personal says what happens to personal data.
type Personal struct {
	Data PersonalPolicy `env:"PERSONAL_DATA"` // how new events have personal data
}

// PersonalPolicy says how events have personal data.
type PersonalPolicy string

// The personal policies.
const (
	PlainData  PersonalPolicy = "plain"  // everybody who has the event can read it
	SealedData PersonalPolicy = "sealed" // sealed with a key of the customer, which `outboxie erase` deletes
)

// Stream is the JetStream stream, what its events have in common, and its limits; 0 is no limit.
type Stream struct {
	Name     string        `env:"STREAM_NAME"`
	Subjects string        `env:"STREAM_SUBJECTS"` // pattern of the subjects of events
	Source   string        `env:"EVENT_SOURCE"`    // the CloudEvents source of every event
	MaxBytes int64         `env:"STREAM_MAX_BYTES"`
	MaxAge   time.Duration `env:"STREAM_MAX_AGE"`
	Replicas int           `env:"STREAM_REPLICAS"`
}

// Outbox tunes the relay.
type Outbox struct {
	LeaseTTL     time.Duration `env:"OUTBOX_LEASE_TTL"`     // how long followers wait for a silent leader
	PollInterval time.Duration `env:"OUTBOX_POLL_INTERVAL"` // the longest sleep of an idle relay without a wake-up
	BatchSize    int           `env:"OUTBOX_BATCH_SIZE"`    // the maximum number of events in one append
	Retention    time.Duration `env:"OUTBOX_RETENTION"`     // how long events are kept after they were published; 0: for ever
}

// Subscriber configures a subscriber. Every subscriber id gets every event.
type Subscriber struct {
	ID             string        `env:"SUBSCRIBER_ID"`           // empty: none given
	Handler        string        `env:"SUBSCRIBER_HANDLER"`      // empty: the subscriber's present handler; new subscriber: totals
	MaxAttempts    int           `env:"SUBSCRIBER_MAX_ATTEMPTS"` // after so many failures an event becomes a dead letter
	InboxRetention time.Duration `env:"INBOX_RETENTION"`         // how long applied events are kept in the inbox at least; 0: for ever
	Lanes          int           `env:"SUBSCRIBER_LANES"`        // number of lanes of a new subscriber; 1: in stream order
	BatchTime      time.Duration `env:"SUBSCRIBER_BATCH_TIME"`   // how long the handler works in one transaction
	IdleTimeout    time.Duration `env:"SUBSCRIBER_IDLE_TIMEOUT"` // Postgres ends a transaction after so long without a statement
	ReadAhead      int           `env:"SUBSCRIBER_READ_AHEAD"`   // bytes of events that wait in memory
	OnLoss         LossPolicy    `env:"SUBSCRIBER_ON_LOSS"`      // what to do if messages were removed and the log does not have their events
	Webhook        Secret        `env:"WEBHOOK_URL"`             // where the handler webhook sends events; the path may be secret; empty: none
}

// LossPolicy is what a subscriber does when the stream has removed messages before it read them, and the log does not have their events.
type LossPolicy string

// The loss policies.
const (
	StopOnLoss     LossPolicy = "stop"     // it waits before the removed messages until an operator decides
	ContinueOnLoss LossPolicy = "continue" // it goes on without the removed messages
)

// Jaeger says where people look at traces. OTEL_* says where traces are sent.
type Jaeger struct {
	URL URL `env:"JAEGER_URL"`
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level `env:"LOG_LEVEL"`
	Format Format     `env:"LOG_FORMAT"`
}

// Playground configures the commands of playground. By default, DataDir also has the file with the token of the admin listener.
type Playground struct {
	DataDir      string `env:"OUTBOXIE_DATA_DIR"` // where Postgres and NATS keep their data
	PostgresHome string `env:"OUTBOXIE_PG_HOME"`  // the folder above bin/postgres; empty: look for it
	PostgresPort int    `env:"--postgres-port"`   // on loopback; 0 picks a free one
	NATSPort     int    `env:"--nats-port"`       // on loopback; 0 picks a free one
	Fresh        bool   `env:"--fresh"`           // by flag only: it deletes data
	Subscribers  int    `env:"--subscribers"`
	Auth         bool   `env:"--auth"` // the API asks for tokens, which `outboxie token` makes
}

// Default returns the configuration without any given setting. Its InstanceID differs with every call.
func Default() Config {
	return Config{
		InstanceID: generatedID(),
		Roles:      Roles{API: true, Relay: true},
		Database:   Database{MaxConns: 16},
		NATS:       NATS{URL: "nats://127.0.0.1:4222"},
		HTTP:       HTTP{Addr: "127.0.0.1:8080", MaxConnections: 512, AdminAddr: "127.0.0.1:8090", ConsolePayloads: ShowPayloads},
		Auth:       Auth{CustomerClaim: "sub"},
		Stream:     Stream{Name: "ORDERS", Subjects: "orders.>", Source: "/outboxie/orders", Replicas: 1},
		Outbox:     Outbox{LeaseTTL: 3 * time.Second, PollInterval: 500 * time.Millisecond, BatchSize: 1000},
		Subscriber: Subscriber{
			MaxAttempts: 10, Lanes: 1, BatchTime: 100 * time.Millisecond, IdleTimeout: 5 * time.Second, ReadAhead: 16 << 20,
			OnLoss: StopOnLoss,
		},
		Personal:   Personal{Data: PlainData},
		Jaeger:     Jaeger{URL: "http://localhost:16686"},
		Log:        Log{Level: slog.LevelInfo, Format: Text},
		Playground: Playground{DataDir: ".outboxie", Subscribers: 1},
	}
}

// ForSubscriber returns a copy of the configuration for a subscriber and its handler, changed by change, or an *Error with all problems.
func (c Config) ForSubscriber(id, handler string, change func(*Subscriber)) (Config, error) {
	c.Subscriber.ID, c.Subscriber.Handler = id, handler
	change(&c.Subscriber)
	if problems := c.problems([]Name{SubscriberID, Handler}); len(problems) > 0 {
		return Config{}, &Error{Problems: problems}
	}
	return c, nil
}

// generatedID returns a unique id that begins with the name of the machine.
func generatedID() string {
	host, err := os.Hostname()
	if err != nil || !identifier(host) || len(host) > 100 {
		host = "outboxie"
	}
	return host + "-" + strings.ToLower(rand.Text()[:8])
}

// List is a setting with several values, separated by commas.
type List []string

// UnmarshalText reads a list such as "a,b". Spaces around a value do not count.
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	for part := range strings.SplitSeq(string(text), ",") {
		*l = append(*l, strings.TrimSpace(part))
	}
	return nil
}

// String returns the list as it is written in a setting.
func (l List) String() string { return strings.Join(l, ",") }

// Format is how log lines look.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Roles says what a serving process does.
type Roles struct {
	API   bool // answer HTTP requests
	Relay bool // take part in the relay's elections, and publish when elected
}

// UnmarshalText reads a list such as "api,relay".
func (r *Roles) UnmarshalText(text []byte) error {
	read := Roles{}
	for part := range strings.SplitSeq(string(text), ",") {
		switch strings.TrimSpace(part) {
		case "api":
			read.API = true
		case "relay":
			read.Relay = true
		default:
			return fmt.Errorf("unknown role %q", part)
		}
	}
	*r = read
	return nil
}

// String returns the list as it is written in a setting.
func (r Roles) String() string {
	var roles []string
	if r.API {
		roles = append(roles, "api")
	}
	if r.Relay {
		roles = append(roles, "relay")
	}
	return strings.Join(roles, ",")
}
