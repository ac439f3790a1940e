package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func build(environment ...string) (config.Config, error) {
	return config.NewBuilder().Environment(environment).Build()
}

// TestDefaultsAreTheContract checks the defaults, and that each process gets an instance id of its own.
func TestDefaultsAreTheContract(t *testing.T) {
	c, err := build()
	require.NoError(t, err)
	require.Empty(t, c.Database.URL)
	require.Equal(t, config.URL("nats://127.0.0.1:4222"), c.NATS.URL)
	require.Equal(t, config.HTTP{Addr: "127.0.0.1:8080", MaxConnections: 512, AdminAddr: "127.0.0.1:8090", ConsolePayloads: config.ShowPayloads}, c.HTTP)
	require.Equal(t, config.Stream{Name: "ORDERS", Subjects: "orders.>", Source: "/outboxie/orders", Replicas: 1}, c.Stream)
	require.Equal(t, config.Outbox{LeaseTTL: 3 * time.Second, PollInterval: 500 * time.Millisecond, BatchSize: 1000}, c.Outbox)
	require.Equal(t, config.Subscriber{
		MaxAttempts: 10, Lanes: 1, BatchTime: 100 * time.Millisecond, IdleTimeout: 5 * time.Second, ReadAhead: 16 << 20, OnLoss: config.StopOnLoss,
	}, c.Subscriber)
	require.Equal(t, config.Jaeger{URL: "http://localhost:16686"}, c.Jaeger)
	require.Equal(t, config.Log{Level: slog.LevelInfo, Format: config.Text}, c.Log)
	require.Equal(t, config.Roles{API: true, Relay: true}, c.Roles)
	require.Equal(t, config.Playground{DataDir: ".outboxie", Subscribers: 1}, c.Playground)

	other, err := build()
	require.NoError(t, err)
	require.Regexp(t, `^\S+-[a-z2-7]{8}$`, c.InstanceID)
	require.NotEqual(t, c.InstanceID, other.InstanceID, "two processes on one machine need two identities")
}

// TestEverySettingCanBeGiven checks that each setting can come from the environment or from a flag.
func TestEverySettingCanBeGiven(t *testing.T) {
	flags, authority := newFlags(t), infra.NewAuthority(t)
	certificate, key := authority.Client("me")
	creds := filepath.Join(t.TempDir(), "me.creds")
	require.NoError(t, os.WriteFile(creds, []byte(someCredentials), 0o600))
	require.NoError(t, flags.Parse([]string{"--fresh", "--subscribers=3", "--auth=false", "--postgres-port=5432", "--nats-port=4222", "--id=billing", "--roles", "relay"}))
	c, err := config.NewBuilder().Flags(flags).Environment([]string{
		"DATABASE_URL=postgres://u:p@db:5432/orders", "DATABASE_MAX_CONNS=8", "NATS_URL=nats://a:4222,tls://b:4222",
		"HTTP_ADDR=:80", "HTTP_MAX_CONNECTIONS=100", "HTTP_DRAIN=5s", "ADMIN_ADDR=:0", "ADMIN_TOKEN_FILE=/run/token", "ADMIN_READ_TOKEN=0123456789abcdef", "CONSOLE_PAYLOADS=off", "HTTP_ALLOWED_HOSTS=shop.example.com, app", "ADMIN_ALLOWED_HOSTS=*",
		"HTTP_TRUSTED_ORIGINS=https://shop.example.com", "HTTP_CORS_ORIGINS=https://app.example.com", "HTTP_TRUST_TRACEPARENT=true", "HTTP_RATE_LIMIT=100", "INSTANCE_ID=one",
		"AUTH_ISSUER=https://id.example.com", "AUTH_AUDIENCE=orders", "AUTH_JWKS_URL=https://id.example.com/keys", "AUTH_CUSTOMER_CLAIM=customer_id",
		"STREAM_NAME=ORDERS-2", "STREAM_SUBJECTS=shop.orders.>", "EVENT_SOURCE=/shop/orders",
		"STREAM_MAX_BYTES=1073741824", "STREAM_MAX_AGE=168h", "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=1s", "OUTBOX_POLL_INTERVAL=100ms",
		"OUTBOX_BATCH_SIZE=10", "OUTBOX_RETENTION=168h", "SUBSCRIBER_HANDLER=emails", "SUBSCRIBER_MAX_ATTEMPTS=3", "INBOX_RETENTION=337h",
		"SUBSCRIBER_LANES=64", "SUBSCRIBER_BATCH_TIME=50ms", "SUBSCRIBER_IDLE_TIMEOUT=1m", "SUBSCRIBER_READ_AHEAD=1048576", "SUBSCRIBER_ON_LOSS=continue",
		"WEBHOOK_URL=https://me:pw@shop/events?token=t",
		"NATS_CREDS=" + creds, "NATS_TLS_CA=" + authority.File, "NATS_TLS_CERT=" + certificate, "NATS_TLS_KEY=" + key, "NATS_INBOX_PREFIX=_INBOX.me",
		"PERSONAL_DATA=sealed", "JAEGER_URL=https://jaeger:443/ui", "LOG_LEVEL=DEBUG", "LOG_FORMAT=json", "OUTBOXIE_DATA_DIR=/data", "OUTBOXIE_PG_HOME=/pg",
	}).Require(config.DatabaseURL, config.SubscriberID).Build()
	require.NoError(t, err)
	require.Equal(t, config.Database{URL: "postgres://u:p@db:5432/orders", MaxConns: 8}, c.Database)
	require.Equal(t, config.NATS{
		URL: "nats://a:4222,tls://b:4222", Creds: creds, CA: authority.File, Cert: certificate, Key: key, InboxPrefix: "_INBOX.me",
	}, c.NATS)
	require.Equal(t, config.HTTP{
		Addr: ":80", MaxConnections: 100, Drain: 5 * time.Second, AdminAddr: ":0", AdminTokenFile: "/run/token", AdminReadToken: "0123456789abcdef", AllowedHosts: config.List{"shop.example.com", "app"},
		AdminAllowedHosts: config.List{"*"}, TrustedOrigins: config.List{"https://shop.example.com"}, TrustTraceparent: true, CORSOrigins: config.List{"https://app.example.com"}, ConsolePayloads: config.HidePayloads, RateLimit: 100,
	}, c.HTTP)
	require.Equal(t, config.Auth{
		Issuer: "https://id.example.com", Audience: "orders", KeysURL: "https://id.example.com/keys", CustomerClaim: "customer_id",
	}, c.Auth)
	require.Equal(t, "one", c.InstanceID)
	require.Equal(t, config.Stream{Name: "ORDERS-2", Subjects: "shop.orders.>", Source: "/shop/orders", MaxBytes: 1 << 30, MaxAge: 168 * time.Hour, Replicas: 3}, c.Stream)
	require.Equal(t, config.Outbox{
		LeaseTTL: time.Second, PollInterval: 100 * time.Millisecond, BatchSize: 10, Retention: 168 * time.Hour,
	}, c.Outbox)
	require.Equal(t, config.Personal{Data: config.SealedData}, c.Personal)
	require.Equal(t, config.Jaeger{URL: "https://jaeger:443/ui"}, c.Jaeger)
	require.Equal(t, config.Log{Level: slog.LevelDebug, Format: config.JSON}, c.Log)
	require.Equal(t, config.Playground{DataDir: "/data", PostgresHome: "/pg", PostgresPort: 5432, NATSPort: 4222, Fresh: true, Subscribers: 3}, c.Playground)
	require.Equal(t, config.Subscriber{
		ID: "billing", Handler: "emails", MaxAttempts: 3, InboxRetention: 337 * time.Hour,
		Lanes: 64, BatchTime: 50 * time.Millisecond, IdleTimeout: time.Minute, ReadAhead: 1 << 20, OnLoss: config.ContinueOnLoss,
		Webhook: "https://me:pw@shop/events?token=t",
	}, c.Subscriber)
	require.Equal(t, config.Roles{Relay: true}, c.Roles)
	for _, s := range c.Settings() {
		switch s.Name {
		case config.AdminToken, config.AdminReadFile, config.AuthMode, config.AuthKeysFile:
			continue // the test sets others instead
		}
		require.Contains(t, []config.Source{config.FromEnvironment, config.FromFlag}, s.Source, "%s: nothing is left out above", s.Name)
	}
}

// TestEveryFieldIsASetting checks that every field has a row in the table: without it nothing reads and validates the field.
func TestEveryFieldIsASetting(t *testing.T) {
	listed := make(map[string]bool)
	for _, s := range config.Default().Settings() {
		listed[string(s.Name)] = true
	}
	for section := range reflect.TypeFor[config.Config]().Fields() {
		if tag := section.Tag.Get("env"); tag != "" {
			require.Contains(t, listed, tag)
			continue
		}
		if !section.IsExported() {
			continue
		}
		for field := range section.Type.Fields() {
			require.Contains(t, listed, field.Tag.Get("env"), "%s.%s", section.Name, field.Name)
		}
	}
}

// TestPrecedence checks that code wins over flags, flags win over the environment, and the environment wins over defaults.
func TestPrecedence(t *testing.T) {
	flags := newFlags(t)
	require.NoError(t, flags.Parse([]string{"--http-addr", "127.0.0.1:2"}))
	c, err := config.NewBuilder().
		Set(func(c *config.Config) { c.Stream.Name = "FROM_CODE" }).
		Flags(flags).
		Environment([]string{"HTTP_ADDR=127.0.0.1:1", "ADMIN_ADDR=127.0.0.1:3", "STREAM_NAME=FROM_ENV", "LOG_LEVEL="}).
		Build()
	require.NoError(t, err)
	require.Equal(t, config.HTTP{Addr: "127.0.0.1:2", MaxConnections: 512, AdminAddr: "127.0.0.1:3", ConsolePayloads: config.ShowPayloads}, c.HTTP, "a flag wins only when it was given")
	require.Equal(t, "FROM_CODE", c.Stream.Name)
	require.Equal(t, config.FromFlag, c.Source(config.HTTPAddr))
	require.Equal(t, config.FromEnvironment, c.Source(config.AdminAddr))
	require.Equal(t, config.FromCode, c.Source(config.StreamName))
	require.Equal(t, config.FromDefault, c.Source(config.LogLevel), "an empty variable is not set")
	require.False(t, c.Given(config.NATSURL))
	require.True(t, c.Given(config.HTTPAddr))
}

// TestFreshCannotComeFromTheEnvironment checks that no variable can make the playground delete its data.
func TestFreshCannotComeFromTheEnvironment(t *testing.T) {
	c, err := build("--fresh=true", "FRESH=true")
	require.NoError(t, err)
	require.False(t, c.Playground.Fresh)
}

// TestUsableFromCode checks that a Config which code made can be validated and shown.
func TestUsableFromCode(t *testing.T) {
	c := config.Default()
	require.NoError(t, c.Validate())
	require.Equal(t, config.FromCode, c.Source(config.HTTPAddr))
	require.NotEmpty(t, c.Settings())
	require.Empty(t, c.Warnings())

	c.Outbox.BatchSize, c.Outbox.Retention = 0, time.Second
	c.Roles = config.Roles{}
	require.EqualError(t, c.Validate(config.DatabaseURL), `the configuration is wrong:
  DATABASE_URL is not set; it must be a URL such as postgres://user:password@host:5432/database (several hosts, each with its port: host1:5432,host2:5432), with special characters in it percent-encoded
  OUTBOXIE_ROLES is ""; it must be a list of api and relay, such as api,relay
  OUTBOX_BATCH_SIZE is "0"; it must be a whole number from 1 to 1000
  OUTBOX_RETENTION is "1s"; it must be a duration of at least 1m, such as 168h, or 0 (for ever)`)
}

// What settings accept, as problems say it.
const (
	acceptedAddress    = "host:port with a port from 0 (any free one) to 65535, such as 127.0.0.1:8080 or :8080"
	acceptedAdmin      = "host:port with a port from 0 (any free one) to 65535, such as 127.0.0.1:8090, and another one than HTTP_ADDR"
	acceptedToken      = "16 to 200 visible ASCII characters without spaces, such as `openssl rand -hex 32` prints, or off"
	acceptedReadToken  = "16 to 200 visible ASCII characters without spaces, such as `openssl rand -hex 32` prints; another one than ADMIN_TOKEN, and not set if that is off"
	acceptedHosts      = "host names without ports, separated by commas, such as shop.example.com,app; IP addresses are always allowed, and * allows any name"
	acceptedOrigins    = "origins without a path, separated by commas, such as https://shop.example.com,http://localhost:3000"
	acceptedSubjects   = `a pattern of subjects such as invoices.>: 1 to 10 parts of letters, digits, - and _, then >; the first part is not outboxie`
	acceptedSource     = `a URI or a path of 1 to 200 ASCII characters, such as /acme/invoices`
	acceptedStreamName = `1 to 200 visible characters without spaces and . * > / \`
	acceptedDatabase   = "a URL such as postgres://user:password@host:5432/database (several hosts, each with its port: host1:5432,host2:5432), with special characters in it percent-encoded"
	acceptedRetention  = "0 (for ever), or a duration longer than STREAM_MAX_AGE and than twice OUTBOX_RETENTION, which must both be set then: " +
		"an event that is forgotten while it can come again could take effect twice"
	acceptedNats = "a URL such as nats://127.0.0.1:4222 (or tls, ws, wss), or several of them separated by commas"
)

// wrongValues has wrong values, each with the text of its problem.
var wrongValues = []struct{ variable, problem string }{
	{"DATABASE_URL=mysql://me:s3cret@h/db", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_URL=postgres://", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_URL=postgres://me:s3cret#@h/db", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_URL=postgres://me:123#s3cret@h/db", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_URL=postgres://me:123/s3cret@h/db", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_URL=host=h password=s3cret", "DATABASE_URL is (hidden); it must be " + acceptedDatabase},
	{"DATABASE_MAX_CONNS=3", `DATABASE_MAX_CONNS is "3"; it must be a whole number from 4 to 1000`},
	{"NATS_URL=127.0.0.1:4222", "NATS_URL is (hidden); it must be " + acceptedNats},
	{"NATS_URL=nats://s3cret@a:4222,http://b", "NATS_URL is (hidden); it must be " + acceptedNats},
	{"JAEGER_URL=localhost:16686", "JAEGER_URL is (hidden); it must be a URL such as http://localhost:16686"},
	{"JAEGER_URL=http:///traces", "JAEGER_URL is (hidden); it must be a URL such as http://localhost:16686"},
	{"HTTP_ADDR=8080", `HTTP_ADDR is "8080"; it must be ` + acceptedAddress},
	{"HTTP_ADDR=localhost:http", `HTTP_ADDR is "localhost:http"; it must be ` + acceptedAddress},
	{"HTTP_ADDR=:65536", `HTTP_ADDR is ":65536"; it must be ` + acceptedAddress},
	{"HTTP_MAX_CONNECTIONS=15", `HTTP_MAX_CONNECTIONS is "15"; it must be a whole number from 16 to 100000`},
	{"HTTP_DRAIN=6m", `HTTP_DRAIN is "6m0s"; it must be a duration from 0s to 5m, longer than a load balancer needs to notice that /readyz answers 503`},
	{"ADMIN_ADDR=x", `ADMIN_ADDR is "x"; it must be ` + acceptedAdmin},
	{"ADMIN_ADDR=127.0.0.1:8080", `ADMIN_ADDR is "127.0.0.1:8080"; it must be ` + acceptedAdmin},
	{"ADMIN_TOKEN=s3cret", "ADMIN_TOKEN is (hidden); it must be " + acceptedToken},
	{"ADMIN_TOKEN=s3cret s3cret s3cret", "ADMIN_TOKEN is (hidden); it must be " + acceptedToken},
	{"NATS_CREDS=-----BEGIN NATS USER JWT-----s3cret", "NATS_CREDS is (hidden); it must be a file with a NATS user's JWT and seed, as `nsc generate creds` writes it"},
	{"ADMIN_TOKEN=OFF", "ADMIN_TOKEN is (hidden); it must be " + acceptedToken},
	{"ADMIN_READ_TOKEN=s3cret", "ADMIN_READ_TOKEN is (hidden); it must be " + acceptedReadToken},
	{"ADMIN_READ_TOKEN=off", "ADMIN_READ_TOKEN is (hidden); it must be " + acceptedReadToken},
	{"HTTP_ALLOWED_HOSTS=http://shop.example.com", `HTTP_ALLOWED_HOSTS is "http://shop.example.com"; it must be ` + acceptedHosts},
	{"HTTP_ALLOWED_HOSTS=shop.example.com:443", `HTTP_ALLOWED_HOSTS is "shop.example.com:443"; it must be ` + acceptedHosts},
	{"PERSONAL_DATA=encrypted", `PERSONAL_DATA is "encrypted"; it must be plain or sealed`},
	{"CONSOLE_PAYLOADS=false", `CONSOLE_PAYLOADS is "false"; it must be on or off`},
	{"ADMIN_ALLOWED_HOSTS=app,", `ADMIN_ALLOWED_HOSTS is "app,"; it must be ` + acceptedHosts},
	{"HTTP_TRUSTED_ORIGINS=shop.example.com", `HTTP_TRUSTED_ORIGINS is "shop.example.com"; it must be ` + acceptedOrigins},
	{"HTTP_TRUSTED_ORIGINS=https://shop.example.com/", `HTTP_TRUSTED_ORIGINS is "https://shop.example.com/"; it must be ` + acceptedOrigins},
	{"HTTP_CORS_ORIGINS=*", `HTTP_CORS_ORIGINS is "*"; it must be ` + acceptedOrigins},
	{"HTTP_TRUST_TRACEPARENT=maybe", `HTTP_TRUST_TRACEPARENT is "maybe"; it must be true or false`},
	{"INSTANCE_ID=a b", `INSTANCE_ID is "a b"; it must be 1 to 200 visible characters without spaces`},
	{"OUTBOXIE_ROLES=api,web", `OUTBOXIE_ROLES is "api,web"; it must be a list of api and relay, such as api,relay`},
	{"SUBSCRIBER_MAX_ATTEMPTS=0", `SUBSCRIBER_MAX_ATTEMPTS is "0"; it must be a whole number from 1 to 1000`},
	{"SUBSCRIBER_LANES=0", `SUBSCRIBER_LANES is "0"; it must be a whole number from 1 to 1024; it is used only when a subscriber begins`},
	{"SUBSCRIBER_BATCH_TIME=3s", `SUBSCRIBER_BATCH_TIME is "3s"; it must be a duration from 1ms to 10s, at most half of SUBSCRIBER_IDLE_TIMEOUT`},
	{"SUBSCRIBER_IDLE_TIMEOUT=1h", `SUBSCRIBER_IDLE_TIMEOUT is "1h0m0s"; it must be a duration from 500ms to 10m, longer than the handler of one event ever takes`},
	{"WEBHOOK_URL=ftp://me:pw@shop", `WEBHOOK_URL is (hidden); it must be a URL such as https://user:password@shop.example.com/events`},
	{"SUBSCRIBER_ON_LOSS=pause", `SUBSCRIBER_ON_LOSS is "pause"; it must be stop or continue`},
	{"SUBSCRIBER_READ_AHEAD=1", `SUBSCRIBER_READ_AHEAD is "1"; it must be a whole number of bytes from 65536 to 1073741824`},
	{"INBOX_RETENTION=168h", `INBOX_RETENTION is "168h0m0s"; it must be ` + acceptedRetention},
	{"INBOX_RETENTION=-1h", `INBOX_RETENTION is "-1h0m0s"; it must be ` + acceptedRetention},
	{"INBOX_RETENTION=week", `INBOX_RETENTION is "week"; it must be ` + acceptedRetention},
	{"SUBSCRIBER_ID=a.b", `SUBSCRIBER_ID is "a.b"; it must be 1 to 64 letters, digits, - and _`},
	{"SUBSCRIBER_ID=" + strings.Repeat("x", 65), `SUBSCRIBER_ID is "` + strings.Repeat("x", 65) + `"; it must be 1 to 64 letters, digits, - and _`},
	{"STREAM_SUBJECTS=orders.*", `STREAM_SUBJECTS is "orders.*"; it must be ` + acceptedSubjects},
	{"STREAM_SUBJECTS=>", `STREAM_SUBJECTS is ">"; it must be ` + acceptedSubjects},
	{"STREAM_SUBJECTS=outboxie.>", `STREAM_SUBJECTS is "outboxie.>"; it must be ` + acceptedSubjects},
	{"EVENT_SOURCE=a b", `EVENT_SOURCE is "a b"; it must be ` + acceptedSource},
	{"EVENT_SOURCE=%zz", `EVENT_SOURCE is "%zz"; it must be ` + acceptedSource},
	{"STREAM_NAME=ORDERS.EU", `STREAM_NAME is "ORDERS.EU"; it must be ` + acceptedStreamName},
	{"STREAM_NAME=" + strings.Repeat("x", 201), `STREAM_NAME is "` + strings.Repeat("x", 201) + `"; it must be ` + acceptedStreamName},
	{"STREAM_MAX_BYTES=1GB", `STREAM_MAX_BYTES is "1GB"; it must be a whole number of bytes, at least 0 (0: no limit)`},
	{"STREAM_MAX_BYTES=-1", `STREAM_MAX_BYTES is "-1"; it must be a whole number of bytes, at least 0 (0: no limit)`},
	{"STREAM_MAX_AGE=1ms", `STREAM_MAX_AGE is "1ms"; it must be a duration of at least 1s, such as 168h, or 0 (no limit)`},
	{"STREAM_REPLICAS=6", `STREAM_REPLICAS is "6"; it must be a whole number from 1 to 5`},
	{"OUTBOX_LEASE_TTL=3", `OUTBOX_LEASE_TTL is "3"; it must be a duration from 500ms to 10m, such as 3s`},
	{"OUTBOX_LEASE_TTL=1h", `OUTBOX_LEASE_TTL is "1h0m0s"; it must be a duration from 500ms to 10m, such as 3s`},
	{"OUTBOX_POLL_INTERVAL=0s", `OUTBOX_POLL_INTERVAL is "0s"; it must be a duration from 1ms to 1m, such as 500ms`},
	{"OUTBOX_BATCH_SIZE=1001", `OUTBOX_BATCH_SIZE is "1001"; it must be a whole number from 1 to 1000`},
	{"LOG_LEVEL=loud", `LOG_LEVEL is "loud"; it must be debug, info, warn or error`},
	{"LOG_FORMAT=xml", `LOG_FORMAT is "xml"; it must be text or json`},
	{"--http-addr=x", `--http-addr is "x"; it must be ` + acceptedAddress},
	{"--data-dir=", `--data-dir is ""; it must be a folder`},
	{"--id=", `--id is ""; it must be 1 to 64 letters, digits, - and _`},
	{"--roles=", `--roles is ""; it must be a list of api and relay, such as api,relay`},
	{"--fresh=maybe", `--fresh is "maybe"; it must be true or false`},
	{"--postgres-port=65536", `--postgres-port is "65536"; it must be a port from 0 (any free one) to 65535`},
	{"--nats-port=four", `--nats-port is "four"; it must be a port from 0 (any free one) to 65535`},
	{"--subscribers=-1", `--subscribers is "-1"; it must be a whole number from 0 to 100`},
	{"--subscribers=many", `--subscribers is "many"; it must be a whole number from 0 to 100`},
}

// TestProblems checks the problem of wrong values. wrongValues has a wrong value for every setting that can be wrong.
func TestProblems(t *testing.T) {
	for _, test := range wrongValues {
		t.Run(test.variable, func(t *testing.T) {
			flags := newFlags(t)
			if strings.HasPrefix(test.variable, "--") {
				require.NoError(t, flags.Parse([]string{test.variable}))
			}
			_, err := config.NewBuilder().Environment([]string{test.variable}).Flags(flags).Build()
			require.EqualError(t, err, "the configuration is wrong:\n  "+test.problem)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

// TestInboxRetentionOutlivesStreamAndLog checks that the inbox remembers every event that can be delivered again.
func TestInboxRetentionOutlivesStreamAndLog(t *testing.T) {
	for _, c := range []struct {
		age, kept, forgotten string
		fine                 bool
	}{
		{"24h", "1h", "23h", false},
		{"24h", "1h", "24h", false},
		{"24h", "1h", "24h1s", true},
		{"24h", "13h", "25h", false},
		{"24h", "13h", "26h1s", true},
		{"0", "1h", "1000h", false},
		{"24h", "0", "1000h", false},
		{"0", "0", "0", true},
	} {
		_, err := build("STREAM_MAX_AGE="+c.age, "OUTBOX_RETENTION="+c.kept, "INBOX_RETENTION="+c.forgotten)
		require.Equal(t, c.fine, err == nil, "%+v: %v", c, err)
	}
}

// TestAllProblemsAtOnce checks that one error names every wrong setting once.
func TestAllProblemsAtOnce(t *testing.T) {
	flags := newFlags(t)
	require.NoError(t, flags.Parse([]string{"--admin-addr", "nowhere"}))
	_, err := config.NewBuilder().
		Environment([]string{"OUTBOX_LEASE_TTL=soon", "OUTBOX_BATCH_SIZE=0", "LOG_LEVEL=info"}).
		Flags(flags).
		Set(func(c *config.Config) { c.Stream.Replicas = 0 }).
		Require(config.DatabaseURL, config.SubscriberID).
		Build()
	var wrong *config.Error
	require.ErrorAs(t, err, &wrong)
	names := make(map[config.Name]bool)
	for _, problem := range wrong.Problems {
		require.False(t, names[problem.Name], "%s is reported twice", problem.Name)
		names[problem.Name] = true
	}
	require.Equal(t, map[config.Name]bool{
		config.DatabaseURL: true, config.SubscriberID: true, config.AdminAddr: true, config.OutboxLeaseTTL: true,
		config.OutboxBatchSize: true, config.StreamReplicas: true,
	}, names)
	require.Contains(t, err.Error(), "SUBSCRIBER_ID (or --id) is not set; it must be 1 to 64")
}

// TestFlags checks the help and the defaults of flags.
func TestFlags(t *testing.T) {
	flags := newFlags(t)
	require.Equal(t, "127.0.0.1:8080", flags.Lookup("http-addr").DefValue)
	require.Contains(t, flags.FlagUsages(),
		"--http-addr host:port    where the API listens; port 0 picks a free one [HTTP_ADDR] (default 127.0.0.1:8080)")
	require.Contains(t, flags.FlagUsages(), "--fresh                  delete the data of earlier runs first\n")
	require.Panics(t, func() { config.AddFlags(flags, config.StreamName) }, "a setting without a flag")
}

func newFlags(t *testing.T) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, config.HTTPAddr, config.AdminAddr, config.DataDir, config.PostgresPort, config.NATSPort,
		config.Fresh, config.Subscribers, config.PlaygroundAuth,
		config.RolesList, config.SubscriberID)
	return flags
}
