// Package migrations holds the database's schema as goose migrations, so that the binary carries it. There are two sets, each
// with a version table of its own: the engine's tables, and those of the order service.
//
// To add a migration, put a file into the folder of its set. Numbers rise within a set, and no number is used in both.
//
// Migrations run while an earlier version of the program serves. So a change that takes long must not hold a lock, and a change
// that takes a lock must be short. A file is one of two kinds, and TestFiles tells them apart:
//
//   - In a transaction: changes of tables that take no longer on a large table than on an empty one. The migrator waits for each
//     lock for a tenth of a second, and tries the file again after a pause.
//   - NO TRANSACTION: indexes on tables that may be large, CONCURRENTLY. An index that a failed attempt left behind is dropped
//     first. Each statement may be run again. If such a file also changes tables, these changes are in a DO block with a
//     lock_timeout of 100 ms.
//
// A line "-- Lost: …" in the Down part tells what is lost when the migration is taken back.
package migrations

import "embed"

// Engine holds the migrations of the engine's tables, in the folder "engine".
//
//go:embed engine/*.sql
var Engine embed.FS

// Service holds the migrations of the order service's tables, in the folder "service".
//
//go:embed service/*.sql
var Service embed.FS
