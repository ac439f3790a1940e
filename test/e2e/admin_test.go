package e2e_test

import (
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// madeToken reads the token that a process has made, from its data folder.
func madeToken(t *testing.T, data string) string {
	t.Helper()
	file := filepath.Join(data, "admin-token")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode(), "for nobody else")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// askAdmin asks the admin listener at an address, and returns the status of the answer.
func askAdmin(t *testing.T, address, path, authorization string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", authorization)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

// TestAnAdminTokenByDefault checks that instances without a token make one, and share it if they share a data folder. A request with this token
// is answered, and a request with a wrong token is refused and logged.
func TestAnAdminTokenByDefault(t *testing.T) {
	data := t.TempDir()
	environment := []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=0.0.0.0:0",
		"ADMIN_TOKEN=", "OUTBOXIE_DATA_DIR=" + data,
	}
	one, two := infra.Launch(t, environment, "serve"), infra.Launch(t, environment, "serve")
	for _, p := range []*infra.Process{one, two} {
		require.Equal(t, filepath.Join(data, "admin-token"), p.WaitFor("the admin listener asks for the token in a file file="))
		require.Equal(t, http.StatusOK, askAdmin(t, p.Admin(), "/metrics", "bearer "+madeToken(t, data)))
		require.Equal(t, http.StatusUnauthorized, askAdmin(t, p.Admin(), "/debug/pprof/heap", ""))
		require.Equal(t, http.StatusOK, askAdmin(t, p.Admin(), "/readyz", ""))
	}
	require.Equal(t, http.StatusUnauthorized, askAdmin(t, one.Admin(), "/outbox/status", "Bearer not-the-right-one"))
	one.WaitFor(`a request had a wrong admin token server="admin listener" remote=[::1]:`)
	require.NotContains(t, one.String(), "not-the-right-one")
	said, err := infra.Outboxie(t, append(environment, "ADMIN_ADDR="+one.Admin()), "healthcheck")
	require.NoError(t, err, said)
	for _, p := range []*infra.Process{one, two} {
		require.Zero(t, p.Stop(syscall.SIGTERM))
		require.NotContains(t, p.String(), madeToken(t, data))
	}
}

// TestWithoutAnAdminToken checks that an instance that cannot store a token (on a read-only file system) answers only probes. If the token is
// switched off, the log says that the listener asks for none.
func TestWithoutAnAdminToken(t *testing.T) {
	environment := []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
	}
	closed := infra.Launch(t, append(environment, "ADMIN_TOKEN=", "OUTBOXIE_DATA_DIR=/dev/null/data"), "serve")
	open := infra.Launch(t, append(environment, "ADMIN_TOKEN=off"), "serve")
	closed.WaitFor("the admin listener answers probes alone, because there is no token: set ADMIN_TOKEN, or ADMIN_TOKEN_FILE to a file")
	open.WaitFor("the admin listener asks for no token, because ADMIN_TOKEN is off")
	for path, statuses := range map[string][2]int{"/healthz": {200, 200}, "/readyz": {200, 200}, "/outbox/status": {401, 200}, "/debug/pprof/heap": {401, 200}} {
		require.Equal(t, statuses, [2]int{askAdmin(t, closed.Admin(), path, "Bearer "), askAdmin(t, open.Admin(), path, "")}, path)
	}
	said, err := infra.Outboxie(t, append(environment, "ADMIN_ADDR="+closed.Admin(), "ADMIN_TOKEN=", "OUTBOXIE_DATA_DIR=/dev/null/data"), "healthcheck")
	require.NoError(t, err, said)
}

// documentedCurl is a command of the documents that asks the admin listener of an instance on this machine.
var documentedCurl = regexp.MustCompile(`curl -H "Authorization: Bearer \$\(cat \.outboxie/admin-token\)" http://localhost:8090/\S+`)

// tryDocumentedCurls runs the curl commands of the documents with a process's admin listener and data folder.
func tryDocumentedCurls(t *testing.T, p *infra.Process, data string) {
	t.Helper()
	_, port, err := net.SplitHostPort(p.Admin())
	require.NoError(t, err)
	for _, document := range []string{"docs/operations.md", "docs/metrics.md", "docs/runbook.md"} {
		text, err := os.ReadFile("../../" + document)
		require.NoError(t, err)
		commands := documentedCurl.FindAllString(string(text), -1)
		require.NotEmpty(t, commands, document)
		for _, text := range commands {
			text = strings.NewReplacer(".outboxie/", data+"/", ":8090/", ":"+port+"/", "curl ", "curl -fsS --noproxy '*' ").Replace(text)
			said, err := exec.CommandContext(t.Context(), "sh", "-c", text).CombinedOutput()
			require.NoError(t, err, "%s\n%s", text, said)
		}
	}
}
