package embedded

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

const (
	natsUser         = "outboxie"
	natsPasswordFile = "password"
)

// natsPassword returns the password of the NATS in a folder. It makes one if there is none yet.
func natsPassword(folder string) (string, error) {
	if err := os.Chmod(folder, 0o700); err != nil {
		return "", fmt.Errorf("close the folder of NATS to other users: %w", err)
	}
	file := filepath.Join(folder, natsPasswordFile)
	text, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("%s is empty: remove the file, and NATS gets a new password", file)
	}
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the password of NATS: %w", err)
	}
	password := newPassword()
	if err := writeSecret(file, password+"\n"); err != nil {
		return "", fmt.Errorf("keep the password of NATS: %w", err)
	}
	return password, nil
}

// passwordCheck admits natsUser with the password. The check of NATS itself would warn that the password is not a hash. A hash would
// protect a file that other users can read, but this file is closed to them.
type passwordCheck string

// Check reports whether the client may connect.
func (p passwordCheck) Check(client natsserver.ClientAuthentication) bool {
	given := client.GetOpts()
	return given.Username == natsUser && subtle.ConstantTimeCompare([]byte(given.Password), []byte(p)) == 1
}
