package e2e_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const secret = "s3cret"

// TestLogsTellNoSecrets checks that no secret in addresses, headers, requests or payloads is in logs or spans, at any level and in either
// format.
func TestLogsTellNoSecrets(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			database, broker, collector := infra.Database(t), infra.NATS(t).URL, infra.Collector(t)
			db, err := sql.Open("pgx", database)
			require.NoError(t, err)
			defer db.Close()
			user := map[string]string{"text": "user:" + secret, "json": secret}[format] // a password, or a token
			environment := append(collector.Environment(), "DATABASE_URL="+withSecret(t, db, database), "OUTBOX_LEASE_TTL=1s",
				"NATS_URL="+strings.Replace(broker, "nats://", "nats://"+user+"@", 1), "SUBSCRIBER_MAX_ATTEMPTS=1",
				"LOG_LEVEL=debug", "LOG_FORMAT="+format, "OTEL_LOGS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_HEADERS=authorization="+secret,
				"OTEL_BLRP_SCHEDULE_DELAY=50")
			api, admin := fmt.Sprintf("127.0.0.1:%d", infra.Port(t)), fmt.Sprintf("127.0.0.1:%d", infra.Port(t))
			app := infra.Launch(t, append([]string{"INSTANCE_ID=app", "HTTP_ADDR=" + api, "ADMIN_ADDR=" + admin}, environment...), "serve")
			app.WaitFor("created the stream")
			subscriber := infra.Launch(t, environment, "subscribe", "--id", "emails")
			subscriber.WaitFor("subscribed")

			order, err := infra.Place(api, "Authorization: Bearer "+secret, "Cookie: session="+secret)
			require.NoError(t, err)
			for _, body := range []string{`{"customer_id": "` + secret + `", "amount": "` + secret + `"}`, secret, `{"` + secret + `": 1}`} {
				answer, err := http.Post("http://"+api+"/orders?token="+secret, "application/json", strings.NewReader(body))
				require.NoError(t, err)
				require.NoError(t, answer.Body.Close())
				require.Equal(t, http.StatusBadRequest, answer.StatusCode)
			}
			require.Equal(t, http.StatusUnauthorized, askAdmin(t, admin, "/outbox/status?token="+secret, "Bearer "+secret))
			for version, payload := range []string{`{"card": "s3cret"}`, `{"card": "` + strings.Repeat(secret, 200_000) + `"}`} {
				_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
					VALUES (gen_random_uuid(), 'order', $1, $2, 'outboxie.order.paid.v1', 'orders.created', '{"x-token": "s3cret"}', $3)`, order.ID, version+2, payload)
				require.NoError(t, err)
			}
			nc, err := nats.Connect(broker)
			require.NoError(t, err)
			defer nc.Close()
			require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "orders.x", Header: nats.Header{"Who": {secret}}, Data: []byte(secret)}))
			app.WaitFor("an event can never be published")
			subscriber.WaitFor("an event is a dead letter")
			subscriber.WaitFor("a message cannot be read as an event")
			app.WaitFor("answered a request")
			for _, p := range []*infra.Process{app, subscriber} {
				require.Zero(t, p.Stop(syscall.SIGTERM))
				require.NotContains(t, p.String(), secret)
			}
			if format == "json" {
				requireLines(t, app.String())
			}
			sent := fmt.Sprintf("%+v %+v", collector.Logs(), collector.Spans())
			require.Contains(t, sent, "became leader")
			require.Contains(t, sent, "POST /orders")
			require.NotContains(t, sent, secret)
		})
	}
}

// withSecret returns the address of the same database for a user whose password is the secret.
func withSecret(t *testing.T, db *sql.DB, address string) string {
	t.Helper()
	role := fmt.Sprintf("keeper_%d", time.Now().UnixNano())
	_, err := db.Exec("CREATE ROLE " + role + " LOGIN SUPERUSER PASSWORD '" + secret + "'")
	require.NoError(t, err)
	t.Cleanup(func() {
		db, err := sql.Open("pgx", address)
		require.NoError(t, err)
		defer db.Close()
		_, err = db.Exec("DROP ROLE " + role)
		require.NoError(t, err)
	})
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	parsed.User = url.UserPassword(role, secret)
	return parsed.String()
}

// requireLines checks that a machine can read every line, and that a request's lines carry its trace.
func requireLines(t *testing.T, text string) {
	t.Helper()
	traced := 0
	for line := range strings.Lines(text) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		require.NotEmpty(t, fields["time"])
		require.NotEmpty(t, fields["level"])
		require.NotEmpty(t, fields["msg"])
		if fields["msg"] == "answered a request" {
			traced++
			require.Len(t, fields["trace_id"], 32)
			require.Len(t, fields["span_id"], 16)
		}
	}
	require.NotZero(t, traced)
}
