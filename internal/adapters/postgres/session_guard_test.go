package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTransactionCommand checks that commands which begin or end a transaction are found wherever a statement can begin, and nowhere else.
func TestTransactionCommand(t *testing.T) {
	for query, want := range map[string]string{
		"COMMIT":                                "COMMIT",
		" commit;":                              "COMMIT",
		"Commit and chain":                      "COMMIT",
		"end":                                   "END",
		"ABORT":                                 "ABORT",
		"rollback":                              "ROLLBACK",
		"ROLLBACK;":                             "ROLLBACK",
		"rollback work":                         "ROLLBACK",
		"rollback; SELECT to":                   "ROLLBACK",
		"BEGIN":                                 "BEGIN",
		"start transaction":                     "START",
		"prepare transaction 'x'":               "PREPARE TRANSACTION",
		"-- one\nCOMMIT":                        "COMMIT",
		"/* a /* b */ c */ commit":              "COMMIT",
		"SELECT 1; COMMIT; BEGIN":               "COMMIT",
		"SELECT ';'; ;; end":                    "END",
		"SELECT 'it''s'; commit":                "COMMIT",
		`SELECT E'a\'; '; commit`:               "COMMIT",
		"SELECT $$;$$; commit":                  "COMMIT",
		"SELECT $a$ $$ $a$; commit":             "COMMIT",
		"SELECT 1 -- ;\n; commit":               "COMMIT",
		"":                                      "",
		";":                                     "",
		"SELECT 1":                              "",
		"SELECT 1;":                             "",
		"SELECT 'x; COMMIT'":                    "",
		`SELECT "x; COMMIT"`:                    "",
		"SELECT $$; COMMIT$$":                   "",
		"SELECT $q$; COMMIT; $$ $q$":            "",
		`SELECT E'\'; COMMIT'`:                  "",
		"SELECT 1 /* ; COMMIT */":               "",
		"SELECT 1 -- ; COMMIT":                  "",
		"SELECT $1, $2":                         "",
		"INSERT INTO t VALUES ($1, $2, $3)":     "",
		"SAVEPOINT s":                           "",
		"RELEASE SAVEPOINT s":                   "",
		"ROLLBACK TO SAVEPOINT s":               "",
		"rollback work to s":                    "",
		"ROLLBACK TRANSACTION TO SAVEPOINT s":   "",
		"PREPARE q AS SELECT 1":                 "",
		"SELECT CASE WHEN true THEN 1\nEND":     "",
		"UPDATE commits SET begin_at = now()":   "",
		"DO $$ BEGIN PERFORM 1; END $$":         "",
		"SELECT 1; SAVEPOINT a; SELECT commit;": "",
	} {
		require.Equal(t, want, transactionCommand(query), query)
	}
}
