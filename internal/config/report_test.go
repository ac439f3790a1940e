package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestAcceptedURLs checks that URLs of every usual form are accepted, and are shown without their secrets.
func TestAcceptedURLs(t *testing.T) {
	for text, shown := range map[string]string{
		"DATABASE_URL=postgres://me:s3cret@db:5432/orders?sslmode=require": "postgres://me:xxxxx@db:5432/orders?sslmode=require",
		"DATABASE_URL=postgresql://me:s3cret@a:5432,b:5433/orders":         "postgresql://me:xxxxx@a:5432,b:5433/orders",
		"DATABASE_URL=postgres:///orders?host=/run/pg&password=s3cret":     "postgres:///orders?host=%2Frun%2Fpg&password=xxxxx",
		"DATABASE_URL=postgres://me@db/orders":                             "postgres://me@db/orders",
		"DATABASE_URL=postgres://me:s3cret%40%23@db/orders":                "postgres://me:xxxxx@db/orders",
		"NATS_URL=nats://s3cret@a:4222":                                    "nats://xxxxx@a:4222",
		"NATS_URL=nats://me:s3cret@a:4222, wss://s3cret@b:443":             "nats://me:xxxxx@a:4222,wss://xxxxx@b:443",
		"NATS_URL=tls://demo":                                              "tls://demo",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=s3cret":                  "(hidden)",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:s3cret@localhost:4318":      "http://me:xxxxx@localhost:4318",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318":                "http://localhost:4318",

		"DATABASE_URL=postgres://me@db/o?sslmode=require&sslpassword=s3cret":  "postgres://me@db/o?sslmode=require&sslpassword=xxxxx",
		"DATABASE_URL=postgres://me@db/o?options=-c%20app.key%3Ds3cret":       "postgres://me@db/o?options=xxxxx",
		"DATABASE_URL=postgres://me@db/o?PASSWORD=s3cret&sslmode=disable":     "postgres://me@db/o?PASSWORD=xxxxx&sslmode=disable",
		"NATS_URL=wss://a:443?apikey=s3cret,nats://b:4222?jwt=s3cret":         "wss://a:443?apikey=xxxxx,nats://b:4222?jwt=xxxxx",
		"JAEGER_URL=https://jaeger/ui?apikey=s3cret":                          "https://jaeger/ui?apikey=xxxxx",
		"JAEGER_URL=https://s3cret@jaeger/ui":                                 "https://xxxxx@jaeger/ui",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS=x-api-key=s3cret":                  "(hidden)",
		"OTEL_EXPORTER_OTLP_ENDPOINT=https://o11y.example.com?api_key=s3cret": "https://o11y.example.com?api_key=xxxxx",
		"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=#s3cret":                            "(hidden)",
		"OTEL_RESOURCE_ATTRIBUTES=service.version=1,vault_token=s3cret,a=b":   "service.version=1,vault_token=xxxxx,a=xxxxx",
		"OTEL_RESOURCE_ATTRIBUTES=s3cret":                                     "(hidden)",
		"OTEL_VENDOR_API_KEY=s3cret":                                          "(hidden)",
		"OTEL_TRACES_EXPORTER=https://me:s3cret@collector":                    "(hidden)",
		"OTEL_TRACES_SAMPLER_ARG=0.01":                                        "0.01",
		"OTEL_BSP_SCHEDULE_DELAY=200":                                         "200",
	} {
		t.Run(text, func(t *testing.T) {
			c, err := build(text)
			require.NoError(t, err)
			name, value, _ := strings.Cut(text, "=")
			found := false
			for _, s := range c.Settings() {
				if string(s.Name) == name {
					found = true
					require.Equal(t, config.Setting{Name: s.Name, Value: shown, Source: config.FromEnvironment}, s)
				}
			}
			require.True(t, found)
			if strings.HasPrefix(name, "DATABASE") {
				require.Equal(t, value, string(c.Database.URL), "the connection gets the real one")
			}
			requireNoSecret(t, c)
		})
	}
}

func requireNoSecret(t *testing.T, c config.Config) {
	t.Helper()
	var printed, logged strings.Builder
	require.NoError(t, c.Print(&printed))
	marshaled, err := json.Marshal(c)
	require.NoError(t, err)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("json", "config", c, "database", c.Database.URL, "nats", c.NATS.URL)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("text", "config", c, "database", c.Database.URL, "nats", c.NATS.URL)
	everything := printed.String() + string(marshaled) + logged.String() +
		fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c.Database.URL, c.Database.URL, c.NATS.URL) + fmt.Sprint(&c, c.Database, c.NATS)
	require.NotContains(t, everything, "s3cret")
}

// TestPrint checks the table of all settings.
func TestPrint(t *testing.T) {
	c, err := build("DATABASE_URL=postgres://me:s3cret@db/orders", "INSTANCE_ID=one", "OTEL_SERVICE_NAME=orders")
	require.NoError(t, err)
	var printed strings.Builder
	require.NoError(t, c.Print(&printed))
	require.Equal(t, `SETTING                  VALUE                          FROM
DATABASE_URL             postgres://me:xxxxx@db/orders  environment
DATABASE_MAX_CONNS       16                             default
NATS_URL                 nats://127.0.0.1:4222          default
NATS_CREDS                                              default
NATS_TLS_CA                                             default
NATS_TLS_CERT                                           default
NATS_TLS_KEY                                            default
NATS_INBOX_PREFIX                                       default
HTTP_ADDR                127.0.0.1:8080                 default
HTTP_MAX_CONNECTIONS     512                            default
HTTP_DRAIN               0s                             default
ADMIN_ADDR               127.0.0.1:8090                 default
ADMIN_TOKEN                                             default
ADMIN_TOKEN_FILE                                        default
ADMIN_READ_TOKEN                                        default
ADMIN_READ_TOKEN_FILE                                   default
CONSOLE_PAYLOADS         on                             default
HTTP_ALLOWED_HOSTS                                      default
ADMIN_ALLOWED_HOSTS                                     default
HTTP_TRUSTED_ORIGINS                                    default
HTTP_CORS_ORIGINS                                       default
HTTP_TRUST_TRACEPARENT   false                          default
HTTP_RATE_LIMIT          0                              default
AUTH                                                    default
AUTH_ISSUER                                             default
AUTH_AUDIENCE                                           default
AUTH_JWKS_URL                                           default
AUTH_JWKS_FILE                                          default
AUTH_CUSTOMER_CLAIM      sub                            default
INSTANCE_ID              one                            environment
OUTBOXIE_ROLES           api,relay                      default
SUBSCRIBER_ID                                           default
SUBSCRIBER_HANDLER                                      default
SUBSCRIBER_MAX_ATTEMPTS  10                             default
SUBSCRIBER_LANES         1                              default
SUBSCRIBER_BATCH_TIME    100ms                          default
SUBSCRIBER_IDLE_TIMEOUT  5s                             default
SUBSCRIBER_READ_AHEAD    16777216                       default
SUBSCRIBER_ON_LOSS       stop                           default
WEBHOOK_URL                                             default
INBOX_RETENTION          0s                             default
STREAM_NAME              ORDERS                         default
STREAM_SUBJECTS          orders.>                       default
EVENT_SOURCE             /outboxie/orders               default
STREAM_MAX_BYTES         0                              default
STREAM_MAX_AGE           0s                             default
STREAM_REPLICAS          1                              default
OUTBOX_LEASE_TTL         3s                             default
OUTBOX_POLL_INTERVAL     500ms                          default
OUTBOX_BATCH_SIZE        1000                           default
OUTBOX_RETENTION         0s                             default
PERSONAL_DATA            plain                          default
JAEGER_URL               http://localhost:16686         default
LOG_LEVEL                info                           default
LOG_FORMAT               text                           default
OUTBOXIE_DATA_DIR        .outboxie                      default
OUTBOXIE_PG_HOME                                        default
--postgres-port          0                              default
--nats-port              0                              default
--fresh                  false                          default
--subscribers            1                              default
--auth                   false                          default
OTEL_SERVICE_NAME        orders                         environment
`, printed.String())
	require.Error(t, c.Print(brokenWriter{}))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }

// TestWarnsOfMistypedSettings checks that a variable which looks like a setting but is none gives a warning.
func TestWarnsOfMistypedSettings(t *testing.T) {
	c, err := build("OUTBOX_LEASE_TLL=1s", "OUTBOX_LEASE_TTL=1s", "OUTBOXIE_X=", "PATH=/bin")
	require.NoError(t, err)
	require.Equal(t, []string{"OUTBOX_LEASE_TLL is not a setting and was ignored; `outboxie config` lists them"}, c.Warnings())
}

// TestTheTokenIsNeverShown checks that neither the table nor logs nor JSON contain the tokens of the admin listener.
func TestTheTokenIsNeverShown(t *testing.T) {
	c, err := build("ADMIN_TOKEN=0123456789s3cret", "ADMIN_READ_TOKEN=readers-also-s3cret")
	require.NoError(t, err)
	require.Equal(t, "0123456789s3cret", string(c.HTTP.AdminToken))
	var text strings.Builder
	require.NoError(t, c.Print(&text))
	require.Regexp(t, `(?m)^ADMIN_TOKEN +\(hidden\) +environment$`, text.String())
	require.Regexp(t, `(?m)^ADMIN_READ_TOKEN +\(hidden\) +environment$`, text.String())
	marshaled, err := json.Marshal(c)
	require.NoError(t, err)
	logged := new(strings.Builder)
	slog.New(slog.NewTextHandler(logged, nil)).Info("settings", "http", c.HTTP, "token", c.HTTP.AdminToken)
	for _, shown := range []string{text.String(), string(marshaled), logged.String(), fmt.Sprintf("%v %+v %#v %s", c, c, c, c.HTTP.AdminToken)} {
		require.NotContains(t, shown, "s3cret")
	}
}
