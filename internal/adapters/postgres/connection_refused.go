package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrRefused reports that the server answered, and that it does not let the program in until a person changes something.
var ErrRefused = fault.New(fault.Invalid, "database_refused", "the database does not let this program in")

// Refused returns ErrRefused, with what to do, if err says that the server does not let the program in. Otherwise it returns err. Use it in
// processes that start, and in commands. A process that already runs keeps trying, so for such a process this error stays ErrUnavailable.
func Refused(err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	cure := transportCure(connect)
	for _, reported := range reportedBy(connect) { // each host may have its own reason
		if cure == "" {
			cure = sessionCure(reported, connect.Config)
		}
	}
	if cure == "" {
		return err
	}
	return ErrRefused.With("%s", cure).Wrap(connect)
}

// Unreachable reports whether err says that no server has answered.
func Unreachable(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && len(reportedBy(connect)) == 0
}

// reportedBy returns all errors within err that servers have reported.
func reportedBy(err error) (all []*pgconn.PgError) {
	if reported, ok := err.(*pgconn.PgError); ok { //nolint:errorlint // the tree is walked here
		return []*pgconn.PgError{reported}
	}
	switch wrapping := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() []error }:
		for _, each := range wrapping.Unwrap() {
			all = append(all, reportedBy(each)...)
		}
	case interface{ Unwrap() error }:
		if inner := wrapping.Unwrap(); inner != nil {
			return reportedBy(inner)
		}
	}
	return all
}

func sessionCure(reported *pgconn.PgError, config *pgconn.Config) string {
	switch reported.Code {
	case "28P01":
		return "the password is wrong, or there is no role " + config.User + ": correct DATABASE_URL (or PGPASSWORD, or the password " +
			"file), or set the password with ALTER ROLE " + config.User + " PASSWORD …"
	case "28000":
		return "the server does not let the role " + config.User + " in: make the role with LOGIN, let it in from this address with a " +
			"line in pg_hba.conf, or use the encryption and the certificate that pg_hba.conf requires (sslmode, sslcert and " +
			"sslkey in DATABASE_URL)"
	case "3D000":
		return "there is no database " + config.Database + ": correct DATABASE_URL, or make it with createdb --encoding=UTF8 --template=template0 " +
			config.Database
	case "42501":
		return "the role " + config.User + " may not connect: GRANT CONNECT ON DATABASE " + config.Database + " TO " + config.User
	case "22023", "22P02", "42704":
		return "the server does not know a setting of DATABASE_URL, or not its value: correct or remove it"
	}
	if cure := poolerCure(reported, config); cure != "" {
		return cure
	}
	if refusesSettings(reported) {
		return "the pooler does not take a setting of DATABASE_URL: remove it there, and set it with ALTER ROLE " + config.User + " SET …"
	}
	return ""
}

// PgBouncer reports everything as a protocol violation. The text is PgBouncer's own, or that of the Postgres behind it.
var (
	poolerNoDatabase = regexp.MustCompile(`no such database|database ".*" does not exist`)
	poolerNoLogin    = regexp.MustCompile(`(password|SASL) authentication failed|auth failed|no such user|role ".*" does not exist|not permitted to log in|permission denied for database|no pg_hba.conf entry`)
)

func poolerCure(reported *pgconn.PgError, config *pgconn.Config) string {
	switch {
	case reported.Code != "08P01":
	case poolerNoDatabase.MatchString(reported.Message):
		return "the pooler, or Postgres behind it, has no database " + config.Database + ": correct DATABASE_URL, or the pooler's list of databases"
	case poolerNoLogin.MatchString(reported.Message):
		return "the pooler, or Postgres behind it, does not let the role in: correct DATABASE_URL, or the pooler's users and their passwords"
	}
	return ""
}

// alert matches the TLS alerts by which a server says that it will never accept a connection with these settings.
var alert = regexp.MustCompile(`remote error: tls: .*(certificate|handshake failure|protocol version|access denied)`)

func transportCure(err error) string {
	var untrusted *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case strings.Contains(text, "server refused TLS connection"):
		return "the server does not offer TLS, and sslmode in DATABASE_URL demands it: set ssl = on at the server, or on a trusted " +
			"network sslmode=disable"
	case errors.As(err, &untrusted), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return "the server's certificate is not trusted: name its authority with sslrootcert in DATABASE_URL, and the host as the certificate does"
	case alert.MatchString(text):
		return "the server does not accept this client's TLS: check sslcert and sslkey in DATABASE_URL"
	case strings.Contains(text, "require_auth check failed"), strings.Contains(text, "channel binding check failed"),
		strings.Contains(text, "sslcertmode check failed"):
		return "the server does not authenticate as DATABASE_URL demands: change require_auth, channel_binding or sslcertmode there, or the server"
	}
	return ""
}
