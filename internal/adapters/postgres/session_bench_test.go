package postgres_test

import (
	"database/sql"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// cpu returns the processor time of this process. Other processes on the machine disturb it less than the elapsed time.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkStatement compares a statement with the same statement without deadlines.
func BenchmarkStatement(b *testing.B) {
	address := infra.Database(b)
	bare, err := sql.Open("pgx", address+"&default_query_exec_mode=simple_protocol")
	require.NoError(b, err)
	defer bare.Close()
	bounded, err := postgres.Open(postgres.Options{URL: address})
	require.NoError(b, err)
	defer bounded.Close()
	for name, db := range map[string]*bun.DB{"pgx": bun.NewDB(bare, pgdialect.New()), "bounded": bounded} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var one int
			before := cpu(b)
			for b.Loop() {
				if err := db.QueryRowContext(b.Context(), "SELECT 1").Scan(&one); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
