package config

import (
	"strings"
	"time"
)

// Name is the name of a setting: its environment variable, or "--name" for a setting that only a flag can give.
type Name string

// The settings.
const (
	DatabaseURL      Name = "DATABASE_URL"
	DatabaseMaxConns Name = "DATABASE_MAX_CONNS"
	NATSURL          Name = "NATS_URL"
	NATSCreds        Name = "NATS_CREDS"
	NATSCA           Name = "NATS_TLS_CA"
	NATSCert         Name = "NATS_TLS_CERT"
	NATSKey          Name = "NATS_TLS_KEY"
	NATSInboxPrefix  Name = "NATS_INBOX_PREFIX"
	HTTPAddr         Name = "HTTP_ADDR"
	HTTPMaxConns     Name = "HTTP_MAX_CONNECTIONS"
	HTTPDrain        Name = "HTTP_DRAIN"
	AdminAddr        Name = "ADMIN_ADDR"
	AdminToken       Name = "ADMIN_TOKEN"
	AdminTokenFile   Name = "ADMIN_TOKEN_FILE"
	AdminReadToken   Name = "ADMIN_READ_TOKEN"
	AdminReadFile    Name = "ADMIN_READ_TOKEN_FILE"
	ConsolePayloads  Name = "CONSOLE_PAYLOADS"
	HTTPHosts        Name = "HTTP_ALLOWED_HOSTS"
	AdminHosts       Name = "ADMIN_ALLOWED_HOSTS"
	HTTPOrigins      Name = "HTTP_TRUSTED_ORIGINS"
	CORSOrigins      Name = "HTTP_CORS_ORIGINS"
	TrustTraceparent Name = "HTTP_TRUST_TRACEPARENT"
	HTTPRateLimit    Name = "HTTP_RATE_LIMIT"
	AuthMode         Name = "AUTH"
	AuthIssuer       Name = "AUTH_ISSUER"
	AuthAudience     Name = "AUTH_AUDIENCE"
	AuthKeysURL      Name = "AUTH_JWKS_URL"
	AuthKeysFile     Name = "AUTH_JWKS_FILE"
	AuthCustomer     Name = "AUTH_CUSTOMER_CLAIM"
	InstanceID       Name = "INSTANCE_ID"
	RolesList        Name = "OUTBOXIE_ROLES"
	SubscriberID     Name = "SUBSCRIBER_ID"
	Handler          Name = "SUBSCRIBER_HANDLER"
	MaxAttempts      Name = "SUBSCRIBER_MAX_ATTEMPTS"
	InboxRetention   Name = "INBOX_RETENTION"
	Lanes            Name = "SUBSCRIBER_LANES"
	BatchTime        Name = "SUBSCRIBER_BATCH_TIME"
	IdleTimeout      Name = "SUBSCRIBER_IDLE_TIMEOUT"
	ReadAhead        Name = "SUBSCRIBER_READ_AHEAD"
	OnLoss           Name = "SUBSCRIBER_ON_LOSS"
	WebhookURL       Name = "WEBHOOK_URL"
	StreamName       Name = "STREAM_NAME"
	StreamSubjects   Name = "STREAM_SUBJECTS"
	EventSource      Name = "EVENT_SOURCE"
	StreamMaxBytes   Name = "STREAM_MAX_BYTES"
	StreamMaxAge     Name = "STREAM_MAX_AGE"
	StreamReplicas   Name = "STREAM_REPLICAS"
	OutboxLeaseTTL   Name = "OUTBOX_LEASE_TTL"
	OutboxPoll       Name = "OUTBOX_POLL_INTERVAL"
	OutboxBatchSize  Name = "OUTBOX_BATCH_SIZE"
	OutboxRetention  Name = "OUTBOX_RETENTION"
	PersonalData     Name = "PERSONAL_DATA"
	JaegerURL        Name = "JAEGER_URL"
	LogLevel         Name = "LOG_LEVEL"
	LogFormat        Name = "LOG_FORMAT"
	DataDir          Name = "OUTBOXIE_DATA_DIR"
	PostgresHome     Name = "OUTBOXIE_PG_HOME"
	PostgresPort     Name = "--postgres-port"
	NATSPort         Name = "--nats-port"
	Fresh            Name = "--fresh"
	Subscribers      Name = "--subscribers"
	PlaygroundAuth   Name = "--auth"
)

// setting describes one setting. A test checks that the table has every struct tag of Config.
type setting struct {
	name    Name
	flag    string // empty: no flag
	kind    string // of the flag, as its help shows it
	help    string // of the flag
	secret  bool
	accepts string
	ok      func(Config) bool // nil: everything that parses is accepted
}

func (s setting) flagOnly() bool { return strings.HasPrefix(string(s.name), "--") }

// String names the setting in every way that it can be given.
func (s setting) String() string {
	if s.flag == "" || s.flagOnly() {
		return string(s.name)
	}
	return string(s.name) + " (or --" + s.flag + ")"
}

const (
	aToken        = "16 to 200 visible ASCII characters without spaces, such as `openssl rand -hex 32` prints"
	aPort         = "a port from 0 (any free one) to 65535"
	anAddress     = "host:port with a port from 0 (any free one) to 65535, such as 127.0.0.1:8080 or :8080"
	anotherOnHere = "host:port with a port from 0 (any free one) to 65535, such as 127.0.0.1:8090, and another one than HTTP_ADDR"
	hostNames     = "host names without ports, separated by commas, such as shop.example.com,app; IP addresses are always allowed, and * allows any name"
)

var settings = []setting{
	{
		name: DatabaseURL, secret: true,
		accepts: "a URL such as postgres://user:password@host:5432/database (several hosts, each with its port: host1:5432,host2:5432), " +
			"with special characters in it percent-encoded",
		ok: func(c Config) bool { return c.Database.URL == "" || c.Database.URL.isDatabase() },
	},
	{
		name: DatabaseMaxConns, accepts: "a whole number from 4 to 1000",
		ok: func(c Config) bool { return within(c.Database.MaxConns, 4, 1000) },
	},
	{
		name: NATSURL, secret: true,
		accepts: "a URL such as nats://127.0.0.1:4222 (or tls, ws, wss), or several of them separated by commas",
		ok:      func(c Config) bool { return c.NATS.URL.isNATS() },
	},
	{
		name: NATSCreds, accepts: "a file with a NATS user's JWT and seed, as `nsc generate creds` writes it",
		ok: func(c Config) bool { return c.NATS.Creds == "" || hasCredentials(c.NATS.Creds) },
	},
	{
		name: NATSCA, accepts: "a file with PEM certificates",
		ok: func(c Config) bool { return c.NATS.CA == "" || hasCertificate(c.NATS.CA) },
	},
	{
		name: NATSCert, accepts: "a file with a PEM certificate, given together with NATS_TLS_KEY",
		ok: func(c Config) bool { return c.NATS.Cert == "" && c.NATS.Key == "" || hasCertificate(c.NATS.Cert) },
	},
	{
		name: NATSKey, accepts: "a file with the PEM private key of the certificate in NATS_TLS_CERT, given together with it",
		ok: func(c Config) bool {
			return c.NATS.Cert == "" && c.NATS.Key == "" || c.NATS.Key != "" && !hasCertificate(c.NATS.Cert) || isKeyPair(c.NATS.Cert, c.NATS.Key)
		},
	},
	{
		name: NATSInboxPrefix, accepts: "1 to 5 parts separated by dots, each of 1 to 50 letters, digits, - and _, such as _INBOX.relay: answers come on " +
			"subjects that begin so, and nobody else should be allowed to subscribe there",
		ok: func(c Config) bool { return c.NATS.InboxPrefix == "" || inboxPrefix.MatchString(c.NATS.InboxPrefix) },
	},
	{
		name: HTTPAddr, flag: "http-addr", kind: "host:port", help: "where the API listens; port 0 picks a free one",
		accepts: anAddress, ok: func(c Config) bool { return address(c.HTTP.Addr) },
	},
	{
		name: HTTPMaxConns, accepts: "a whole number from 16 to 100000",
		ok: func(c Config) bool { return within(c.HTTP.MaxConnections, 16, 100_000) },
	},
	{
		name: HTTPDrain, accepts: "a duration from 0s to 5m, longer than a load balancer needs to notice that /readyz answers 503",
		ok: func(c Config) bool { return within(c.HTTP.Drain, 0, 5*time.Minute) },
	},
	{
		name: AdminAddr, flag: "admin-addr", kind: "host:port",
		help: "where probes, /metrics and operators are answered; port 0 picks a free one", accepts: anotherOnHere,
		ok: func(c Config) bool { return address(c.HTTP.AdminAddr) && !c.HTTP.clash() },
	},
	{
		name: AdminToken, secret: true, accepts: aToken + ", or off",
		ok: func(c Config) bool {
			return c.HTTP.AdminToken == "" || c.HTTP.AdminToken == Off || token.MatchString(string(c.HTTP.AdminToken))
		},
	},
	{
		name: AdminTokenFile, accepts: "a file that holds the token of the admin listener, or where a new one can be kept; it is not used, and must not be set, " +
			"when ADMIN_TOKEN is",
		ok: func(c Config) bool { return c.HTTP.AdminTokenFile == "" || c.HTTP.AdminToken == "" },
	},
	{
		name: AdminReadToken, secret: true, accepts: aToken + "; another one than ADMIN_TOKEN, and not set if that is off",
		ok: Config.adminReadTokenOK,
	},
	{
		name: AdminReadFile, accepts: "a file that holds a token that may only read; it must not be set when ADMIN_READ_TOKEN is, or when ADMIN_TOKEN is off",
		ok: Config.adminReadFileOK,
	},
	{
		name: ConsolePayloads, accepts: "on or off",
		ok: func(c Config) bool {
			return c.HTTP.ConsolePayloads == ShowPayloads || c.HTTP.ConsolePayloads == HidePayloads
		},
	},
	{
		name: HTTPHosts, accepts: hostNames, ok: func(c Config) bool { return areHosts(c.HTTP.AllowedHosts) },
	},
	{
		name: AdminHosts, accepts: hostNames, ok: func(c Config) bool { return areHosts(c.HTTP.AdminAllowedHosts) },
	},
	{
		name: HTTPOrigins, accepts: "origins without a path, separated by commas, such as https://shop.example.com,http://localhost:3000",
		ok: func(c Config) bool { return areOrigins(c.HTTP.TrustedOrigins) },
	},
	{
		name: CORSOrigins, accepts: "origins without a path, separated by commas, such as https://shop.example.com,http://localhost:3000",
		ok: func(c Config) bool { return areOrigins(c.HTTP.CORSOrigins) },
	},
	{name: TrustTraceparent, accepts: "true or false"},
	{
		name: HTTPRateLimit, accepts: "a whole number of requests a second from 1 to 1000000, or 0 (any number)",
		ok: func(c Config) bool { return within(c.HTTP.RateLimit, 0, 1_000_000) },
	},
	authSetting(AuthMode, "off, without any other setting of AUTH_…, or not set", Auth.modeOK),
	authSetting(AuthIssuer, "the iss of accepted tokens, given together with AUTH_AUDIENCE; an https URL without a query (or http on this machine) "+
		"that says where the keys are, unless AUTH_JWKS_URL or AUTH_JWKS_FILE says it", Auth.issuerOK),
	authSetting(AuthAudience, "the aud of accepted tokens, given together with AUTH_ISSUER", Auth.audienceOK),
	authSetting(AuthKeysURL, "an http or https URL of the issuer's JSON Web Key Set, and not given together with AUTH_JWKS_FILE", Auth.keysURLOK),
	authSetting(AuthKeysFile, "a file with the issuer's JSON Web Key Set, and not given together with AUTH_JWKS_URL", Auth.keysFileOK),
	authSetting(AuthCustomer, "the name of the claim that has the customer's id, such as sub", Auth.customerClaimOK),
	{
		name: InstanceID, accepts: "1 to 200 visible characters without spaces",
		ok: func(c Config) bool { return identifier(c.InstanceID) },
	},
	{
		name: RolesList, flag: "roles", kind: "list", help: "what this process does: api, relay or both",
		accepts: "a list of api and relay, such as api,relay",
		ok:      func(c Config) bool { return c.Roles != Roles{} },
	},
	{
		name: SubscriberID, flag: "id", kind: "name", help: "the subscriber's name: every name gets every event",
		accepts: "1 to 64 letters, digits, - and _",
		ok:      func(c Config) bool { return c.Subscriber.ID == "" || plainName.MatchString(c.Subscriber.ID) },
	},
	{
		name: Handler, flag: "handler", kind: "name", help: "what the subscriber does with events; a subscriber that has begun keeps its handler",
		accepts: "1 to 64 letters, digits, - and _",
		ok:      func(c Config) bool { return c.Subscriber.Handler == "" || plainName.MatchString(c.Subscriber.Handler) },
	},
	{
		name: MaxAttempts, accepts: "a whole number from 1 to 1000",
		ok: func(c Config) bool { return within(c.Subscriber.MaxAttempts, 1, 1000) },
	},
	{
		name: Lanes, accepts: "a whole number from 1 to 1024; it is used only when a subscriber begins",
		ok: func(c Config) bool { return within(c.Subscriber.Lanes, 1, 1024) },
	},
	{
		name: BatchTime, accepts: "a duration from 1ms to 10s, at most half of SUBSCRIBER_IDLE_TIMEOUT",
		ok: func(c Config) bool {
			return within(c.Subscriber.BatchTime, time.Millisecond, 10*time.Second) && c.Subscriber.BatchTime <= c.Subscriber.IdleTimeout/2
		},
	},
	{
		name: IdleTimeout, accepts: "a duration from 500ms to 10m, longer than the handler of one event ever takes",
		ok: func(c Config) bool { return within(c.Subscriber.IdleTimeout, 500*time.Millisecond, 10*time.Minute) },
	},
	{
		name: ReadAhead, accepts: "a whole number of bytes from 65536 to 1073741824",
		ok: func(c Config) bool { return within(c.Subscriber.ReadAhead, 64<<10, 1<<30) },
	},
	{
		name: OnLoss, accepts: "stop or continue",
		ok: func(c Config) bool { return c.Subscriber.OnLoss == StopOnLoss || c.Subscriber.OnLoss == ContinueOnLoss },
	},
	{
		name: WebhookURL, secret: true, accepts: "a URL such as https://user:password@shop.example.com/events",
		ok: func(c Config) bool { return c.Subscriber.Webhook == "" || URL(c.Subscriber.Webhook).isHTTP() },
	},
	{
		// An event that the stream still has may come again. So may an event that the log still has, because the relay can publish it into the
		// stream again. The inbox must remember such events.
		name: InboxRetention, accepts: "0 (for ever), or a duration longer than STREAM_MAX_AGE and than twice OUTBOX_RETENTION, " +
			"which must both be set then: an event that is forgotten while it can come again could take effect twice",
		ok: func(c Config) bool {
			forgotten, age, kept := c.Subscriber.InboxRetention, c.Stream.MaxAge, c.Outbox.Retention
			return forgotten == 0 || age > 0 && forgotten > age && kept > 0 && forgotten > 2*kept
		},
	},
	{
		name: StreamName, accepts: "1 to 200 visible characters without spaces and . * > / \\",
		ok: func(c Config) bool { return jetStreamName(c.Stream.Name) },
	},
	{
		name: StreamSubjects, accepts: "a pattern of subjects such as invoices.>: 1 to 10 parts of letters, digits, - and _, then >; the first part is not outboxie",
		ok: func(c Config) bool { return eventSubjects(c.Stream.Subjects) },
	},
	{
		name: EventSource, accepts: "a URI or a path of 1 to 200 ASCII characters, such as /acme/invoices",
		ok: func(c Config) bool { return eventSource(c.Stream.Source) },
	},
	{
		name: StreamMaxBytes, accepts: "a whole number of bytes, at least 0 (0: no limit)",
		ok: func(c Config) bool { return c.Stream.MaxBytes >= 0 },
	},
	{
		name: StreamMaxAge, accepts: "a duration of at least 1s, such as 168h, or 0 (no limit)",
		ok: func(c Config) bool { return c.Stream.MaxAge == 0 || c.Stream.MaxAge >= time.Second },
	},
	{
		name: StreamReplicas, accepts: "a whole number from 1 to 5",
		ok: func(c Config) bool { return within(c.Stream.Replicas, 1, 5) },
	},
	{
		name: OutboxLeaseTTL, accepts: "a duration from 500ms to 10m, such as 3s",
		ok: func(c Config) bool { return within(c.Outbox.LeaseTTL, 500*time.Millisecond, 10*time.Minute) },
	},
	{
		name: OutboxPoll, accepts: "a duration from 1ms to 1m, such as 500ms",
		ok: func(c Config) bool { return within(c.Outbox.PollInterval, time.Millisecond, time.Minute) },
	},
	{
		name: OutboxBatchSize, accepts: "a whole number from 1 to 1000",
		ok: func(c Config) bool { return within(c.Outbox.BatchSize, 1, 1000) },
	},
	{
		name: OutboxRetention, accepts: "a duration of at least 1m, such as 168h, or 0 (for ever)",
		ok: func(c Config) bool { return c.Outbox.Retention == 0 || c.Outbox.Retention >= time.Minute },
	},
	{
		name: PersonalData, accepts: "plain or sealed",
		ok: func(c Config) bool { return c.Personal.Data == PlainData || c.Personal.Data == SealedData },
	},
	{
		name: JaegerURL, flag: "jaeger-url", kind: "URL", help: "where Jaeger's pages and queries are", secret: true,
		accepts: "a URL such as http://localhost:16686",
		ok:      func(c Config) bool { return c.Jaeger.URL.isHTTP() },
	},
	{name: LogLevel, accepts: "debug, info, warn or error"},
	{
		name: LogFormat, accepts: "text or json",
		ok: func(c Config) bool { return c.Log.Format == Text || c.Log.Format == JSON },
	},
	{
		name: DataDir, flag: "data-dir", kind: "folder", help: "where Postgres and NATS keep their data",
		accepts: "a folder", ok: func(c Config) bool { return c.Playground.DataDir != "" },
	},
	{name: PostgresHome, accepts: "the folder above bin/postgres"},
	{
		name: PostgresPort, flag: "postgres-port", kind: "number", help: "port of Postgres on 127.0.0.1; 0 picks a free one",
		accepts: aPort, ok: func(c Config) bool { return within(c.Playground.PostgresPort, 0, 65535) },
	},
	{
		name: NATSPort, flag: "nats-port", kind: "number", help: "port of NATS on 127.0.0.1; 0 picks a free one",
		accepts: aPort, ok: func(c Config) bool { return within(c.Playground.NATSPort, 0, 65535) },
	},
	{name: Fresh, flag: "fresh", kind: "bool", help: "delete the data of earlier runs first", accepts: "true or false"},
	{
		name: Subscribers, flag: "subscribers", kind: "number", help: "how many subscribers to run",
		accepts: "a whole number from 0 to 100",
		ok:      func(c Config) bool { return within(c.Playground.Subscribers, 0, 100) },
	},
	{
		name: PlaygroundAuth, flag: "auth", kind: "bool", help: "let the API ask for tokens, which `outboxie token` makes",
		accepts: "true or false, and no AUTH_… with true",
		ok:      func(c Config) bool { return !c.Playground.Auth || !c.Auth.On() && c.Auth.Mode == "" },
	},
}

func find(name Name) (setting, bool) {
	for _, s := range settings {
		if s.name == name {
			return s, true
		}
	}
	return setting{}, false
}
