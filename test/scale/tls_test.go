//go:build scale

package scale_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// secure is a Postgres and a NATS that let nobody in without TLS, a client's certificate, and a password or credentials.
type secure struct {
	t         *testing.T
	authority *infra.Authority
	postgres  *infra.PostgresServer
	broker    string // host:port
	creds     string // file
	cert, key string // files, the client's
}

func newSecure(t *testing.T) *secure {
	t.Helper()
	s := &secure{t: t, authority: infra.NewAuthority(t), postgres: infra.Postgres(t)}
	s.cert, s.key = s.authority.Client("instance")
	s.lockPostgres()
	s.startNATS()
	return s
}

// lockPostgres puts certificates into the server's data folder, and makes the server read them. The files get the owner of the folder, because
// the server runs as this user.
func (s *secure) lockPostgres() {
	s.t.Helper()
	data := filepath.Join(s.postgres.DataDir(), "data")
	info, err := os.Stat(data)
	require.NoError(s.t, err)
	owner := info.Sys().(*syscall.Stat_t)
	certificate, key := s.authority.Server()
	write := func(name string, content []byte) {
		file := filepath.Join(data, name)
		require.NoError(s.t, os.WriteFile(file, content, 0o600))
		require.NoError(s.t, os.Chown(file, int(owner.Uid), int(owner.Gid)))
	}
	for name, from := range map[string]string{"server.crt": certificate, "server.key": key, "root.crt": s.authority.File} {
		content, err := os.ReadFile(from)
		require.NoError(s.t, err)
		write(name, content)
	}
	write("pg_hba.conf", []byte("hostssl all all 127.0.0.1/32 password clientcert=verify-ca\n"))
	db := open(s.t, s.postgres.URL)
	for _, statement := range []string{"ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'root.crt'", "SELECT pg_reload_conf()"} {
		_, err := db.Exec(statement)
		require.NoError(s.t, err)
	}
	require.Eventually(s.t, func() bool { return s.connects(s.postgres.URL) != nil }, waitTimeout, 20*time.Millisecond)
}

func (s *secure) connects(address string) error {
	db, err := sql.Open("pgx", address)
	require.NoError(s.t, err)
	defer db.Close()
	return db.Ping()
}

// startNATS starts a server that trusts an operator's signature. It has one user, in one account.
func (s *secure) startNATS() {
	s.t.Helper()
	operator, _ := nkeys.CreateOperator()
	account, _ := nkeys.CreateAccount()
	system, _ := nkeys.CreateAccount()
	user, _ := nkeys.CreateUser()
	public := func(key nkeys.KeyPair) string {
		text, err := key.PublicKey()
		require.NoError(s.t, err)
		return text
	}
	claims := jwt.NewAccountClaims(public(account))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	operatorJWT, err := jwt.NewOperatorClaims(public(operator)).Encode(operator)
	require.NoError(s.t, err)
	accountJWT, err := claims.Encode(operator)
	require.NoError(s.t, err)
	systemJWT, err := jwt.NewAccountClaims(public(system)).Encode(operator)
	require.NoError(s.t, err)
	userJWT, err := jwt.NewUserClaims(public(user)).Encode(account)
	require.NoError(s.t, err)
	seed, err := user.Seed()
	require.NoError(s.t, err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	require.NoError(s.t, err)
	s.creds = filepath.Join(s.t.TempDir(), "user.creds")
	require.NoError(s.t, os.WriteFile(s.creds, creds, 0o600))

	certificate, key := s.authority.Server()
	s.broker = fmt.Sprintf("127.0.0.1:%d", infra.Port(s.t))
	infra.StartNATSProcess(s.t, fmt.Sprintf(`
listen: %s
jetstream { store_dir: %q, sync_interval: always }
tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }
operator: %s
resolver: MEMORY
system_account: %s
resolver_preload: { %s: %s, %s: %s }
`, s.broker, filepath.Join(s.t.TempDir(), "nats"), certificate, key, s.authority.File, operatorJWT,
		public(system), public(system), systemJWT, public(account), accountJWT))
}

// database returns the URL with the password and these parameters.
func (s *secure) database(parameters map[string]string) string {
	s.t.Helper()
	address, err := url.Parse(s.postgres.URL)
	require.NoError(s.t, err)
	query := url.Values{}
	for name, value := range parameters {
		query.Set(name, value)
	}
	address.RawQuery = query.Encode()
	return address.String()
}

// TestTLS checks that orders are placed and delivered over TLS where plain connections and clients without a certificate are refused, and
// that clients refuse servers with a wrong identity.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := newSecure(t)
	verified := map[string]string{"sslmode": "verify-full", "sslrootcert": s.authority.File, "sslcert": s.cert, "sslkey": s.key}
	environment := []string{
		"DATABASE_URL=" + s.database(verified), "NATS_URL=nats://" + s.broker, "NATS_CREDS=" + s.creds, "NATS_TLS_CA=" + s.authority.File,
		"NATS_TLS_CERT=" + s.cert, "NATS_TLS_KEY=" + s.key, "OUTBOX_LEASE_TTL=1s",
	}
	for _, name := range []string{"emails-a", "emails-b"} {
		subscribe(t, "emails", append([]string{"SUBSCRIBER_LANES=4", "INSTANCE_ID=" + name}, environment...))
	}
	placeMany(t, infra.Serve(t, "app", environment).API(), 20)
	db := open(t, s.database(verified))
	require.Eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 20 }, waitTimeout, 10*time.Millisecond)
	require.Equal(t, 4, count(t, db, "SELECT count(*) FROM subscriber_lanes"))
	require.Contains(t, outboxie(t, environment, 1, "outbox", "adopt"), "not halted", "it reaches both")

	t.Run("Postgres", func(t *testing.T) { s.requireRefusedByPostgres(t, verified) })
	t.Run("NATS", func(t *testing.T) { s.requireRefusedByNATS(t) })
}

func (s *secure) requireRefusedByPostgres(t *testing.T, verified map[string]string) {
	t.Helper()
	stranger := infra.NewAuthority(t)
	cert, key := stranger.Client("stranger")
	address, err := url.Parse(s.database(verified))
	require.NoError(t, err)
	password, given := address.User.Password()
	require.True(t, given)
	for name, c := range map[string]struct {
		change map[string]string
		reason string
		code   int
	}{
		"without TLS":                      {map[string]string{"sslmode": "disable"}, "no encryption", 2},
		"without a client's certificate":   {map[string]string{"sslcert": "", "sslkey": ""}, "sslcert", 2},
		"with a stranger's certificate":    {map[string]string{"sslcert": cert, "sslkey": key}, "sslcert", 2},
		"a server that nobody certified":   {map[string]string{"sslrootcert": stranger.File}, "certificate signed by unknown authority", 2},
		"a file that is not there":         {map[string]string{"sslrootcert": "/no/such/file"}, "/no/such/file", 2},
		"a mode that there is not":         {map[string]string{"sslmode": "verify"}, "sslmode", 2},
		"a key that does not belong to it": {map[string]string{"sslkey": key}, "private key does not match", 2},
	} {
		parameters := make(map[string]string)
		for _, all := range []map[string]string{verified, c.change} {
			for name, value := range all {
				parameters[name] = value
			}
		}
		said := outboxie(t, []string{"DATABASE_URL=" + s.database(parameters)}, c.code, "migrate", "status")
		require.Contains(t, said, c.reason, name)
		require.NotContains(t, said, password, "the output does not contain the password")
	}
	address.Host = "localhost:" + address.Port()
	said := outboxie(t, []string{"DATABASE_URL=" + address.String()}, 2, "migrate", "status")
	require.Contains(t, said, "certificate is not valid for any names, but wanted to match localhost")
}

func (s *secure) requireRefusedByNATS(t *testing.T) {
	t.Helper()
	stranger := infra.NewAuthority(t)
	cert, key := stranger.Client("stranger")
	good := jetstream.Options{URL: "nats://" + s.broker, Creds: s.creds, CA: s.authority.File, Cert: s.cert, Key: s.key}
	for name, c := range map[string]struct {
		change func(*jetstream.Options)
		reason string
	}{
		"":                               {func(*jetstream.Options) {}, ""},
		"without credentials":            {func(o *jetstream.Options) { o.Creds = "" }, "authorization violation"},
		"without a client's certificate": {func(o *jetstream.Options) { o.Cert, o.Key = "", "" }, "cannot be reached"}, // the reason is in the log of the server
		"with a stranger's certificate":  {func(o *jetstream.Options) { o.Cert, o.Key = cert, key }, "cannot be reached"},
		"a server that nobody certified": {func(o *jetstream.Options) { o.CA = stranger.File }, "certificate signed by unknown authority"},
		"a server of another name":       {func(o *jetstream.Options) { o.URL = "nats://localhost" + s.broker[len("127.0.0.1"):] }, "failed to verify certificate"},
	} {
		options := good
		c.change(&options)
		said := new(infra.Buffer)
		options.Logger = slog.New(slog.NewTextHandler(said, nil))
		nc, err := jetstream.Connect(options)
		require.NoError(t, err)
		if c.reason == "" {
			require.True(t, nc.IsConnected())
		} else {
			require.Eventually(t, func() bool { return strings.Contains(said.String(), c.reason) }, 5*time.Second, 10*time.Millisecond, "%s: %s", name, said)
			require.False(t, nc.IsConnected(), name)
		}
		nc.Close()
	}
}
