package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// passwordFile holds the passwords of a Postgres, one line for each role, as libpq's PGPASSFILE has them. Only the user that
// the server runs as, and root, can read it.
const passwordFile = "pgpass"

// passwords has the passwords of a Postgres: one for each role that can log in.
type passwords struct {
	superuser, owner string
}

// newPassword returns 128 random bits that need no quoting in a URL, in SQL or in a shell.
func newPassword() string {
	var bits [16]byte
	_, _ = rand.Read(bits[:]) // never fails
	return hex.EncodeToString(bits[:])
}

// readPasswords returns the passwords in a file, and fs.ErrNotExist if there is none.
func readPasswords(file string) (passwords, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return passwords{}, err
	}
	if err != nil {
		return passwords{}, fmt.Errorf("read the passwords of Postgres: %w", err)
	}
	var found passwords
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case len(fields) != 5:
		case fields[3] == superuser:
			found.superuser = fields[4]
		case fields[3] == databaseOwner:
			found.owner = fields[4]
		}
	}
	if found.superuser == "" || found.owner == "" {
		return passwords{}, fmt.Errorf("%s does not hold the passwords of %s and %s: remove the file, and they get new ones",
			file, superuser, databaseOwner)
	}
	return found, nil
}

// write stores the passwords in a file. The file appears completely or not at all.
func (p passwords) write(file string) error {
	text := fmt.Sprintf("*:*:*:%s:%s\n*:*:*:%s:%s\n", superuser, p.superuser, databaseOwner, p.owner)
	if err := writeSecret(file, text); err != nil {
		return fmt.Errorf("keep the passwords of Postgres: %w", err)
	}
	return nil
}

// hide removes the passwords from a text.
func (p passwords) hide(text string) string {
	return strings.NewReplacer(p.superuser, "…", p.owner, "…").Replace(text)
}

// writeSecret replaces a file that only its owner can read.
func writeSecret(file, text string) error {
	next, err := os.CreateTemp(filepath.Dir(file), ".secret-") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }() // after the renaming there is no such file
	if _, err := next.WriteString(text); err != nil {
		return errors.Join(err, next.Close())
	}
	if err := errors.Join(next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}
