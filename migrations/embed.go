// Package migrations holds the database's schema as goose migrations, so that the binary carries it.
package migrations

import "embed"

// Files is every migration, by name.
//
//go:embed *.sql
var Files embed.FS
