package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// rolesTimeout bounds the work on the roles of a server that has just started.
const rolesTimeout = 30 * time.Second

// passwordsOf returns the passwords of the server. If the folder has none yet, passwordsOf makes them. A new server is then made with them.
// A server that an older version of this program made gets the new password for its superuser.
func passwordsOf(ctx context.Context, l *layout, found binaries) (passwords, error) {
	file := filepath.Join(l.root, passwordFile)
	known, err := readPasswords(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return known, err
	}
	made := passwords{superuser: newPassword(), owner: newPassword()}
	if _, err := os.Stat(filepath.Join(l.data, "PG_VERSION")); err == nil {
		if err := setSuperuserPassword(ctx, l, found, made); err != nil {
			return passwords{}, err
		}
	}
	return made, made.write(file)
}

// setSuperuserPassword sets the password in Postgres' single-user mode, without a server. So nobody can log in with the old password
// meanwhile, and this process need not know the old password.
func setSuperuserPassword(ctx context.Context, l *layout, found binaries, new passwords) error {
	fail := func(reason error, said string) error {
		return fmt.Errorf("give the superuser of the Postgres in %s a password of its own: %w\n%s", l.root, reason, new.hide(said))
	}
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		single := exec.CommandContext(ctx, filepath.Join(found.home, "bin", "postgres"), "--single", "-D", l.data, "postgres")
		single.Stdin = strings.NewReader(fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'\n", superuser, new.superuser))
		output, err := single.CombinedOutput()
		said := string(output)
		switch {
		case err == nil && !strings.Contains(said, "ERROR: "): // a failed statement does not end the program
			return nil
		case err == nil:
			return fail(errors.New("the statement failed"), said)
		case !strings.Contains(said, "pre-existing shared memory block") || time.Now().After(deadline) || ctx.Err() != nil:
			return fail(err, said)
		}
	}
}

// secureRoles makes the role that the application logs in as. The role owns the database and everything in it, and is not a superuser. In a
// folder of an older version, the superuser gives its objects to the role. A standby is left alone: it has the roles of its primary.
func secureRoles(ctx context.Context, port int, p passwords) (err error) {
	ctx, cancel := context.WithTimeout(ctx, rolesTimeout)
	defer cancel()
	connection, err := pgx.Connect(ctx, databaseURL(superuser, p.superuser, port))
	if err != nil {
		return fmt.Errorf("connect to Postgres as its superuser: %w", err)
	}
	defer func() { err = errors.Join(err, connection.Close(context.WithoutCancel(ctx))) }()
	var standby bool
	if err := connection.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		return err
	}
	if err := pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, strings.ReplaceAll(rolesSQL, "{password}", p.owner))
		return err
	}); err != nil {
		return fmt.Errorf("make the role %s: %w", databaseOwner, err)
	}
	return nil
}

// rolesSQL may run any number of times. It leaves out sequences that belong to a column, because they get the owner of their table. It also
// leaves out the objects of an extension.
const rolesSQL = `
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'outboxie_owner') THEN
		CREATE ROLE outboxie_owner;
	END IF;
END $$;
ALTER ROLE outboxie_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{password}';
DO $$
DECLARE
	statement text;
	superuser CONSTANT oid := (SELECT oid FROM pg_roles WHERE rolname = 'outboxie');
BEGIN
	IF (SELECT datdba <> superuser FROM pg_database WHERE datname = current_database()) THEN
		RETURN;
	END IF;
	FOR statement IN
		WITH members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e' OR deptype IN ('a', 'i') AND classid = 'pg_class'::regclass AND
			(SELECT relkind = 'S' FROM pg_class WHERE oid = objid))
		SELECT format('ALTER %s %s OWNER TO outboxie_owner', kind, name) FROM (
			SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
					ELSE 'TABLE' END AS kind, oid::regclass::text AS name, relowner AS owner, relnamespace AS schema, 'pg_class'::regclass AS class, oid AS id
				FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			UNION ALL SELECT 'ROUTINE', oid::regprocedure::text, proowner, pronamespace, 'pg_proc'::regclass, oid FROM pg_proc
			UNION ALL SELECT 'TYPE', t.oid::regtype::text, typowner, typnamespace, 'pg_type'::regclass, t.oid
				FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid WHERE typtype IN ('e', 'd', 'r') OR typtype = 'c' AND c.relkind = 'c'
			UNION ALL SELECT 'SCHEMA', quote_ident(nspname), nspowner, oid, 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspname <> 'public'
		) AS things
		WHERE owner = superuser AND (class, id) NOT IN (SELECT classid, objid FROM members)
			AND schema NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\_%' OR nspname = 'information_schema')
	LOOP
		EXECUTE statement;
	END LOOP;
	EXECUTE format('ALTER DATABASE %I OWNER TO outboxie_owner', current_database());
END $$;`
