package postgres_test

import (
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// TestServersThatAreTooOldAreRefused checks that a server's version is checked before the first statement.
func TestServersThatAreTooOldAreRefused(t *testing.T) {
	for version, refused := range map[string]bool{
		"9.6.24": true, "13.23": true, "13.23 (Debian 13.23-1.pgdg12+1)": true,
		"14.0": false, "15.18 (Debian 15.18-0+deb12u1)": false, "18beta1": false, "": false,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go greet(listener, version)
		err = open(t, postgres.Options{URL: "postgres://user@" + listener.Addr().String() + "/db?sslmode=disable"}).PingContext(t.Context())
		require.Error(t, err, "nobody answers the first statement")
		if refused {
			require.ErrorIs(t, err, postgres.ErrVersion, version)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.ErrorContains(t, err, "the server is Postgres "+version+", and the program needs Postgres 14 or later")
		} else {
			require.NotErrorIs(t, err, postgres.ErrVersion, version)
		}
	}
}

// greet accepts clients as a Postgres server of that version does. It hangs up at the first statement.
func greet(listener net.Listener, version string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server := pgproto3.NewBackend(client, client)
		if _, err := server.ReceiveStartupMessage(); err == nil {
			server.Send(&pgproto3.AuthenticationOk{})
			if version != "" {
				server.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
			}
			server.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("1234")})
			server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if server.Flush() == nil {
				_, _ = server.Receive()
			}
		}
		_ = client.Close()
	}
}
