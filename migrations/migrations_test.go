package migrations_test

import (
	"embed"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/migrations"
)

var (
	comments      = regexp.MustCompile(`--[^\n]*`)
	concurrently  = regexp.MustCompile(`^(DROP INDEX CONCURRENTLY IF EXISTS \w+|CREATE (UNIQUE )?INDEX CONCURRENTLY (\w+)\s.*)$`)
	briefBlock    = regexp.MustCompile(`(?s)DO \$\$ BEGIN\s+SET LOCAL lock_timeout = '100ms';.*?END \$\$;`)
	update        = regexp.MustCompile(`(?s)^UPDATE .*`)
	createdIndex  = regexp.MustCompile(`CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\w+\s+ON (\w+)`)
	longRunning   = regexp.MustCompile(`VALIDATE CONSTRAINT|SET NOT NULL|ALTER COLUMN \w+ TYPE|CLUSTER|VACUUM|REINDEX`)
	checkedAtOnce = regexp.MustCompile(`ADD CONSTRAINT[^;]*CHECK[^;]*\)[^;]*;`)
)

// problems returns the statements of a migration that would block the program that serves at the same time.
func problems(text string) (found []string) {
	up, down, _ := strings.Cut(text, "-- +goose Down")
	if !strings.Contains(down, "\n-- Lost: ") {
		found = append(found, "it does not say what taking it back loses")
	}
	outside := strings.Contains(up, "-- +goose NO TRANSACTION")
	up = comments.ReplaceAllString(up, "")
	if outside {
		for _, statement := range strings.Split(briefBlock.ReplaceAllString(up, ""), ";") {
			statement = strings.Join(strings.Fields(statement), " ")
			if statement != "" && !concurrently.MatchString(statement) && !update.MatchString(statement) {
				found = append(found, "outside of a transaction, nothing bounds its wait for a lock: "+statement)
			}
			if created := concurrently.FindStringSubmatch(statement); created != nil && created[3] != "" &&
				!strings.Contains(up, "DROP INDEX CONCURRENTLY IF EXISTS "+created[3]+";") {
				found = append(found, "an attempt that failed leaves the index "+created[3]+" behind, and it is not dropped first")
			}
		}
	}
	for _, index := range createdIndex.FindAllStringSubmatch(up, -1) {
		if !regexp.MustCompile(`CREATE TABLE (IF NOT EXISTS )?` + index[1] + ` \(`).MatchString(up) {
			found = append(found, "building an index locks the table "+index[1]+" for long")
		}
	}
	for _, statement := range checkedAtOnce.FindAllString(up, -1) {
		if !strings.Contains(statement, "NOT VALID") {
			found = append(found, "checking every row locks the table for long: "+statement)
		}
	}
	for _, statement := range longRunning.FindAllString(up, -1) {
		found = append(found, "it reads the whole table while it holds a lock: "+statement)
	}
	return found
}

// TestFiles checks every migration: a change that holds a lock is short, and a change that takes long holds no lock.
func TestFiles(t *testing.T) {
	numbers := make(map[string]string)
	for folder, files := range map[string]embed.FS{"engine": migrations.Engine, "service": migrations.Service} {
		names, err := fs.Glob(files, folder+"/*.sql")
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(names), 4)
		for _, name := range names {
			number, _, _ := strings.Cut(strings.TrimPrefix(name, folder+"/"), "_")
			if number != "00003" { // both sets have used this number since their first version
				require.Empty(t, numbers[number], "%s has the number of another migration", name)
			}
			numbers[number] = name
			text, err := fs.ReadFile(files, name)
			require.NoError(t, err)
			require.Empty(t, problems(string(text)), name)
		}
	}
}

// TestFilesNotices checks that problems finds each kind of problem.
func TestFilesNotices(t *testing.T) {
	const down = "\n-- +goose Down\n-- Lost: nothing.\n"
	for text, problem := range map[string]string{
		"-- +goose Up\nCREATE TABLE a ();\n-- +goose Down\nDROP TABLE a;":                                          "what taking it back loses",
		"-- +goose Up\nCREATE INDEX i ON outbox (x);" + down:                                                       "index locks the table outbox",
		"-- +goose Up\nCREATE UNIQUE INDEX i ON outbox (x);" + down:                                                "index locks the table outbox",
		"-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY i ON outbox (x);" + down:                "not dropped first",
		"-- +goose NO TRANSACTION\n-- +goose Up\nALTER TABLE outbox ADD COLUMN x text;" + down:                     "nothing bounds its wait",
		"-- +goose NO TRANSACTION\n-- +goose Up\nDO $$ BEGIN ALTER TABLE outbox ADD COLUMN x text; END $$;" + down: "nothing bounds its wait",
		"-- +goose Up\nALTER TABLE outbox ADD CONSTRAINT c CHECK (x > 0);" + down:                                  "checking every row",
		"-- +goose Up\nALTER TABLE outbox ALTER COLUMN x SET NOT NULL;" + down:                                     "reads the whole table",
	} {
		require.Contains(t, strings.Join(problems(text), "\n"), problem, text)
	}
	require.Empty(t, problems("-- +goose Up\nCREATE TABLE a (x text);\nCREATE INDEX i ON a (x);"+down))
}
