package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Off is the ADMIN_TOKEN of an admin listener that asks for no token. Off is not a secret, and may be shown.
const Off Secret = "off"

// AcceptedToken says which tokens are accepted.
const AcceptedToken = aToken

// IsToken reports whether text can be the token of the admin listener.
func IsToken(text string) bool { return token.MatchString(text) }

// TokenFile returns the path of the file with the token of the admin listener. The file is used if ADMIN_TOKEN is not set.
func (c Config) TokenFile() string {
	if c.HTTP.AdminTokenFile != "" {
		return c.HTTP.AdminTokenFile
	}
	return filepath.Join(c.Playground.DataDir, "admin-token")
}

// ReadToken returns the token of the admin listener: ADMIN_TOKEN, else the content of TokenFile. If there is no file, it fails with
// fs.ErrNotExist.
func (c Config) ReadToken() (Secret, error) {
	if c.HTTP.AdminToken != "" {
		return c.HTTP.AdminToken, nil
	}
	file := c.TokenFile()
	read, err := readTokenFile(file)
	if errors.Is(err, errNoToken) {
		return "", fmt.Errorf("%w: delete the file, and a new token is made", err)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(file); err == nil && c.HTTP.AdminTokenFile == "" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("other users may read %s: delete the file, and a new token is made; or chmod 600 it", file)
	}
	return read, nil
}

// errNoToken reports that the content of a file is no token.
var errNoToken = errors.New("does not hold a token (" + aToken + ")")

func readTokenFile(file string) (Secret, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	read := Secret(strings.TrimSpace(string(text)))
	if !token.MatchString(string(read)) {
		return "", fmt.Errorf("%s %w", file, errNoToken)
	}
	return read, nil
}

func (c Config) adminReadTokenOK() bool {
	read := c.HTTP.AdminReadToken
	return read == "" || token.MatchString(string(read)) && read != c.HTTP.AdminToken && c.HTTP.AdminToken != Off
}

func (c Config) adminReadFileOK() bool {
	return c.HTTP.AdminReadFile == "" || c.HTTP.AdminReadToken == "" && c.HTTP.AdminToken != Off
}

// ReadOnlyToken returns the token with which operators may only read: ADMIN_READ_TOKEN, else the content of ADMIN_READ_TOKEN_FILE, else "".
// write is the token of ReadToken. If both are the same, the error says so, because then nobody could only read.
func (c Config) ReadOnlyToken(write Secret) (Secret, error) {
	read := c.HTTP.AdminReadToken
	if c.HTTP.AdminReadFile != "" {
		var err error
		if read, err = readTokenFile(c.HTTP.AdminReadFile); err != nil {
			return "", fmt.Errorf("ADMIN_READ_TOKEN_FILE cannot be used: %w", err)
		}
	}
	if read != "" && read == write {
		return "", errors.New("the token that may only read is the admin token: give ADMIN_READ_TOKEN (or ADMIN_READ_TOKEN_FILE) another one than ADMIN_TOKEN")
	}
	return read, nil
}

// MakeToken does the same as ReadToken, for the process that listens. If there is no file, it stores a new token, which only this user can
// read. If several processes store a token at once, one wins and all use its token.
func (c Config) MakeToken() (Secret, error) {
	read, err := c.ReadToken()
	if !errors.Is(err, fs.ErrNotExist) {
		return read, err
	}
	if err := storeToken(c.TokenFile(), rand.Text()+rand.Text()); err != nil {
		return "", fmt.Errorf("the token of the admin listener cannot be kept: %w", err)
	}
	return c.ReadToken()
}

// storeToken creates the file with its whole content at once, unless another process has created it.
func storeToken(file, text string) error {
	folder := filepath.Dir(file)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // the data folder: other users' servers have theirs in it
		return err
	}
	hidden, err := os.CreateTemp(folder, ".admin-token-*") // for this user alone
	if err != nil {
		return err
	}
	defer os.Remove(hidden.Name())
	_, err = hidden.WriteString(text + "\n")
	if err = errors.Join(err, hidden.Close()); err != nil {
		return err
	}
	if err := os.Link(hidden.Name(), file); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
