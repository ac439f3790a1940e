package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestClassify(t *testing.T) {
	background := context.Background()
	ended, end := context.WithCancel(background)
	end()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		kind fault.Kind
	}{
		"no error is none":       {background, nil, fault.Internal},
		"a fault stays":          {background, fmt.Errorf("x: %w", relay.ErrLeaseHeld), fault.Conflict},
		"shutting down":          {background, &pgconn.PgError{Code: "57P01"}, fault.Unavailable},
		"starting up":            {background, &pgconn.PgError{Code: "57P03"}, fault.Unavailable},
		"too many connections":   {background, &pgconn.PgError{Code: "53300"}, fault.Unavailable},
		"disk full":              {background, &pgconn.PgError{Code: "53100"}, fault.Unavailable},
		"serialization":          {background, &pgconn.PgError{Code: "40001"}, fault.Unavailable},
		"deadlock":               {background, &pgconn.PgError{Code: "40P01"}, fault.Unavailable},
		"rolled back":            {background, &pgconn.PgError{Code: "40000"}, fault.Unavailable},
		"an operator":            {background, &pgconn.PgError{Code: "57000"}, fault.Unavailable},
		"statement timeout":      {background, &pgconn.PgError{Code: "57014"}, fault.Unavailable},
		"read only":              {background, &pgconn.PgError{Code: "25006"}, fault.Unavailable},
		"lost in the middle":     {background, io.ErrUnexpectedEOF, fault.Unavailable},
		"unique violation":       {background, &pgconn.PgError{Code: "23505"}, fault.Internal},
		"syntax error":           {background, &pgconn.PgError{Code: "42601"}, fault.Internal},
		"no such table":          {background, &pgconn.PgError{Code: "42P01"}, fault.Internal},
		"anything else":          {background, errors.New("x"), fault.Internal},
		"hidden end of context":  {ended, sql.ErrTxDone, fault.Unavailable},
		"context ended by error": {background, fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			err := postgres.Classify(c.ctx, c.err)
			if c.err == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.kind, fault.KindOf(err))
			if c.ctx.Err() != nil {
				require.ErrorIs(t, err, c.ctx.Err())
			}
		})
	}
}

func TestOpenRefusesWhatIsNoURL(t *testing.T) {
	_, err := postgres.Open(postgres.Options{URL: "postgres://user:secret@host:notaport/db"})
	require.ErrorIs(t, err, postgres.ErrURL)
	require.NotContains(t, err.Error(), "secret")
}

func TestADatabaseThatIsDownIsUnavailable(t *testing.T) {
	db := open(t, postgres.Options{URL: "postgres://127.0.0.1:1/nowhere"})
	err := postgres.NewLog(db, relayName, quiet).Check(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

func TestStatementsAreTracedWithoutTheirValues(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	db := open(t, postgres.Options{URL: infra.Database(t), TracerProvider: provider})

	exec(t, db, "SELECT ?", "secret")
	require.Empty(t, recorder.Ended(), "no span of its own")

	ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
	type lease struct{ Name, Holder string }
	var found []lease
	require.NoError(t, db.NewSelect().Model(&found).ModelTableExpr("leases AS lease").Where("name = ?", "secret").Scan(ctx))
	require.NoError(t, db.NewRaw("SELECT name FROM leases WHERE name = ?", "secret").Scan(ctx, &found))
	_, err := db.NewInsert().Model(&lease{"secret", "secret"}).ModelTableExpr("leases AS lease").Exec(ctx)
	require.Error(t, err, "the token is missing")
	_, err = db.ExecContext(ctx, "nonsense ?", "secret")
	require.Error(t, err)
	parent.End()

	spans := recorder.Ended()
	require.Len(t, spans, 5)
	wantOperation := []string{"SELECT", "SELECT", "INSERT", "NONSENSE"}
	wantError := []string{"", "", "23502", "42601"}
	for i, span := range spans[:4] {
		attributes := make(map[string]string)
		for _, attribute := range span.Attributes() {
			attributes[string(attribute.Key)] = attribute.Value.String()
		}
		require.Equal(t, trace.SpanKindClient, span.SpanKind())
		require.Equal(t, parent.SpanContext().SpanID(), span.Parent().SpanID())
		require.Equal(t, "postgresql", attributes["db.system.name"])
		require.NotEmpty(t, attributes["db.namespace"])
		require.Equal(t, wantOperation[i], attributes["db.operation.name"])
		require.Equal(t, wantError[i], attributes["error.type"])
		require.NotEmpty(t, attributes["db.query.text"])
		require.NotContains(t, fmt.Sprint(attributes, span.Name(), span.Status()), "secret")
	}
}
