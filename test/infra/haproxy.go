package infra

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// haproxyConfig asks every server every 100 ms whether it is ready. On a busy machine an answer may take longer than that, and the server is not
// down for it. HAProxy repeats no request by itself, so a request that a server loses is
// lost for the client too.
const haproxyConfig = `
defaults
	mode http
	retries 0
	timeout connect 2s
	timeout client 30s
	timeout server 30s
	timeout check 2s
	http-reuse always
frontend api
	bind %s
	default_backend instances
backend instances
	option httpchk GET /readyz
	default-server check inter 100ms fall 1 rise 1
`

// Backend is a server behind a proxy: the addresses of its API and of its admin listener, which has /readyz.
type Backend struct{ API, Admin string }

// HAProxy starts a HAProxy in front of servers, and returns its address. It ends with the test.
func HAProxy(t testing.TB, backends ...Backend) string {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/haproxy"); err != nil {
			t.Fatal("there is no haproxy in PATH: install it (Debian: apt-get install haproxy)")
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", Port(t))
	var config strings.Builder
	fmt.Fprintf(&config, haproxyConfig, address)
	for i, backend := range backends {
		host, port, err := net.SplitHostPort(backend.Admin)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&config, "\tserver app%d %s addr %s port %s\n", i+1, backend.API, host, port)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	Start(t, exec.Command(program, "-db", "-f", file))
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address
		} else if time.Now().After(deadline) {
			t.Fatalf("HAProxy did not start: %v", err)
		}
	}
}
