package infra

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const pgBouncerConfig = `
[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = plain
auth_file = %s
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
server_login_retry = 1
logfile = %s
%s
`

// olderThanPrepared matches the versions before 1.21, which do not support prepared statements.
var olderThanPrepared = regexp.MustCompile(`PgBouncer 1\.(\d|1\d|20)\.`)

// PgBouncer starts a PgBouncer in transaction mode in front of a server, and returns the server's URL through PgBouncer. PgBouncer accepts the
// user of the URL, and each user in users, which has passwords by name. PgBouncer ends with the test.
func PgBouncer(t testing.TB, address string, users map[string]string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Fatal("there is no pgbouncer in PATH: install it (Debian: apt-get install pgbouncer)")
		}
	}
	server, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	folder, port := tempDir(t), Port(t)
	more := ""
	if version, err := exec.Command(program, "--version").Output(); err != nil {
		t.Fatal(err)
	} else if bytes.Contains(version, []byte("PgBouncer 1.")) && !olderThanPrepared.Match(version) {
		more = "max_prepared_statements = 0" // no prepared statements: the common configuration, and all that older versions can do
	}
	log, known, config := filepath.Join(folder, "log"), filepath.Join(folder, "users"), filepath.Join(folder, "pgbouncer.ini")
	password, _ := server.User.Password()
	list := fmt.Sprintf("%q %q\n", server.User.Username(), password)
	for name, password := range users {
		list += fmt.Sprintf("%q %q\n", name, password)
	}
	for file, text := range map[string]string{
		known:  list,
		config: fmt.Sprintf(pgBouncerConfig, server.Hostname(), server.Port(), port, known, log, more),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bouncer := exec.Command(program, config)
	bouncer.SysProcAttr = unprivileged(t, folder)
	if err := bouncer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bouncer.Process.Kill()
		_ = bouncer.Wait()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("the end of PgBouncer's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	server.Host = fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", server.Host); err == nil {
			_ = conn.Close()
			return server.String()
		} else if time.Now().After(deadline) {
			t.Fatalf("PgBouncer did not start: %v", err)
		}
	}
}

// unprivileged is for programs that refuse to run as root. If root runs the test, unprivileged returns another user, and gives folder to
// that user.
func unprivileged(t testing.TB, folder string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, folder) {
		if err := os.Chown(file, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
