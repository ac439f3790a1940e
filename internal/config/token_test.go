package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestATokenIsMadeOnce checks that processes which start at the same time share one token, in a file that only their user may read.
func TestATokenIsMadeOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	c, err := build("OUTBOXIE_DATA_DIR=" + folder)
	require.NoError(t, err)
	_, err = c.ReadToken()
	require.ErrorIs(t, err, fs.ErrNotExist, "reading makes none")
	var wait sync.WaitGroup
	made := make([]config.Secret, 20)
	for i := range made {
		wait.Go(func() { made[i], _ = c.MakeToken() })
	}
	wait.Wait()
	for _, one := range made {
		require.Equal(t, made[0], one)
	}
	require.Regexp(t, `^[A-Z2-7]{52}$`, string(made[0]))
	read, err := c.ReadToken()
	require.NoError(t, err)
	require.Equal(t, made[0], read)
	require.Equal(t, filepath.Join(folder, "admin-token"), c.TokenFile())
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left")
	info, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

// TestWhereTheTokenComesFrom checks that ADMIN_TOKEN wins over the file, and that the error about an unusable file says what to do.
func TestWhereTheTokenComesFrom(t *testing.T) {
	const given = "0123456789abcdef"
	folder := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		file := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(file, []byte(text), mode))
		return file
	}
	for name, c := range map[string]struct {
		variable string
		want     config.Secret
		wrong    string
	}{
		"given":                          {"ADMIN_TOKEN=" + given, given, ""},
		"switched off":                   {"ADMIN_TOKEN=off", config.Off, ""},
		"in a file":                      {"ADMIN_TOKEN_FILE=" + write("f", given+"\n", 0o600), given, ""},
		"in a secret of an orchestrator": {"ADMIN_TOKEN_FILE=" + write("o", given, 0o444), given, ""},
		"an empty file":                  {"ADMIN_TOKEN_FILE=" + write("e", "", 0o600), "", "does not hold a token"},
		"a short token":                  {"ADMIN_TOKEN_FILE=" + write("s", "0123456789abcde", 0o600), "", "does not hold a token"},
		"two lines":                      {"ADMIN_TOKEN_FILE=" + write("t", given+"\n"+given, 0o600), "", "does not hold a token"},
		"off in a file":                  {"ADMIN_TOKEN_FILE=" + write("off", "off", 0o600), "", "does not hold a token"},
		"a folder":                       {"ADMIN_TOKEN_FILE=" + folder, "", "is a directory"},
		"nowhere":                        {"ADMIN_TOKEN_FILE=/dev/null/admin-token", "", "/dev/null"},
		"where others read it":           {"OUTBOXIE_DATA_DIR=" + filepath.Dir(write("admin-token", given, 0o644)), "", "other users may read"},
	} {
		t.Run(name, func(t *testing.T) {
			built, err := build(c.variable)
			require.NoError(t, err)
			made, err := built.MakeToken()
			require.Equal(t, c.want, made)
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
			require.NotContains(t, err.Error(), "0123456789")
		})
	}
	_, err := build("ADMIN_TOKEN="+given, "ADMIN_TOKEN_FILE=/f")
	require.ErrorContains(t, err, `ADMIN_TOKEN_FILE is "/f"; it must be a file that holds the token of the admin listener, or where a new one can be kept`)
	require.NotContains(t, err.Error(), given)
}

// TestOffIsShown checks that `config` shows ADMIN_TOKEN=off, which is no secret.
func TestOffIsShown(t *testing.T) {
	c, err := build("ADMIN_TOKEN=off")
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, c.Print(&text))
	require.Regexp(t, `(?m)^ADMIN_TOKEN +off +environment$`, text.String())
}

// TestReadToken checks which setting or file has the read token, and that the program never makes one. It also checks that a read token is refused
// if it is the admin token, because its holder could then change everything.
func TestReadToken(t *testing.T) {
	const given, admin = "0123456789abcdef", "ADMIN_TOKEN=fedcba9876543210"
	folder := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return "ADMIN_READ_TOKEN_FILE=" + file
	}
	for name, c := range map[string]struct {
		variables []string
		want      config.Secret
		wrong     string // of the settings, or of the file
	}{
		"none":                        {[]string{admin}, "", ""},
		"given":                       {[]string{admin, "ADMIN_READ_TOKEN=" + given}, given, ""},
		"in a file":                   {[]string{admin, write("f", given+"\n")}, given, ""},
		"while the token is off":      {[]string{"ADMIN_TOKEN=off", "ADMIN_READ_TOKEN=" + given}, "", "not set if that is off"},
		"a file while it is off":      {[]string{"ADMIN_TOKEN=off", write("o", given)}, "", "when ADMIN_TOKEN is off"},
		"the admin token":             {[]string{"ADMIN_TOKEN=" + given, "ADMIN_READ_TOKEN=" + given}, "", "another one than ADMIN_TOKEN"},
		"the admin token in a file":   {[]string{"ADMIN_TOKEN=" + given, write("s", given)}, "", "give ADMIN_READ_TOKEN (or ADMIN_READ_TOKEN_FILE) another one"},
		"the admin token in its file": {[]string{"ADMIN_TOKEN_FILE=" + filepath.Join(folder, "f"), "ADMIN_READ_TOKEN=" + given}, "", "is the admin token"},
		"both":                        {[]string{"ADMIN_READ_TOKEN=" + given, write("b", given)}, "", "must not be set when ADMIN_READ_TOKEN is"},
		"no file":                     {[]string{admin, "ADMIN_READ_TOKEN_FILE=" + filepath.Join(folder, "none")}, "", "ADMIN_READ_TOKEN_FILE cannot be used"},
		"a short one":                 {[]string{admin, write("short", "0123456789abcde")}, "", "does not hold a token"},
	} {
		t.Run(name, func(t *testing.T) {
			built, err := build(append([]string{"OUTBOXIE_DATA_DIR=" + folder}, c.variables...)...)
			var got config.Secret
			if err == nil {
				var admin config.Secret
				admin, err = built.MakeToken()
				require.NoError(t, err)
				got, err = built.ReadOnlyToken(admin)
			}
			require.Equal(t, c.want, got)
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
			require.NotContains(t, err.Error(), "0123456789")
		})
	}
	require.NoFileExists(t, filepath.Join(folder, "none"))
}
