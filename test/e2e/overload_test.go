package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	memoryOfCompose = 256 << 20 // docker/compose.distributed.yaml gives it to each instance
	placing         = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)

// TestOverload checks that an instance with the memory of the compose file keeps answering while clients send endless bodies, headers and
// connections.
func TestOverload(t *testing.T) {
	limited, command := limitedMemory(t)
	command.Env = append(os.Environ(), "INSTANCE_ID=overload", "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ADMIN_TOKEN="+infra.AdminToken,
		"DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t))
	command.Dir = t.TempDir()
	instance := infra.Start(t, command)
	api, admin := instance.API(), instance.Admin()
	pid := command.Process.Pid
	before := memoryOf(t, pid, "VmRSS")

	const each = 75
	for _, sent := range attacks() {
		for range each {
			conn, err := net.Dial("tcp", api)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			go func() { _, _ = io.WriteString(conn, sent) }() // the server does not read refused requests to their end
		}
	}
	require.Eventually(t, func() bool { return infra.Scrape(t, admin).Value(t, "go_goroutine_count") > each }, waitTimeout, tick)
	for range 10 {
		for _, path := range []string{"/healthz", "/readyz"} {
			require.Equal(t, http.StatusOK, statusOf(t, "http://"+admin+path))
		}
		_, err := infra.Place(api)
		require.NoError(t, err)
		time.Sleep(tick)
	}

	refused := connectTooOften(t, api)
	require.Positive(t, refused)
	require.Equal(t, http.StatusOK, statusOf(t, "http://"+admin+"/readyz"))
	require.Contains(t, instance.String(), "refused connections")

	most := memoryOf(t, pid, "VmHWM")
	t.Logf("memory limited: %t; %d MiB before, at most %d MiB; %d connections refused", limited, before>>20, most>>20, refused)
	require.Less(t, most-before, 120<<20, "three times what was measured, and half of what bodies of 1 MiB took")
}

// attacks returns beginnings of requests that never end, by their description.
func attacks() map[string]string {
	filler := strings.Repeat(" ", 1<<20)
	var headers strings.Builder
	for n := range 4000 {
		fmt.Fprintf(&headers, "%x:\r\n", n)
	}
	return map[string]string{
		"a body that ends with its last byte": placing + "Content-Length: 65536\r\n\r\n" + filler[:65535],
		"a body of 1 MiB":                     placing + "Content-Length: 1048577\r\n\r\n" + filler,
		"a body in a chunk of 1 MiB":          placing + "Transfer-Encoding: chunked\r\n\r\n100000\r\n" + filler,
		"a short body":                        placing + "Content-Length: 8000\r\n\r\n" + filler[:7999],
		"many headers":                        placing + headers.String()[:19<<10],
		"nothing":                             "",
	}
}

// connectTooOften opens more connections than the instance takes, and returns how many are answered with 503.
func connectTooOften(t *testing.T, api string) int {
	t.Helper()
	const tooMany = 600
	refusals := make(chan bool, tooMany)
	for range tooMany {
		conn, err := net.Dial("tcp", api)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			refusals <- err == nil && response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "1"
		}()
	}
	refused := 0
	for range tooMany {
		if <-refusals {
			refused++
		}
	}
	return refused
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url) //nolint:gosec // the test's own
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// limitedMemory returns the command that serves, in a cgroup with the memory of compose if the test may make one.
func limitedMemory(t *testing.T) (limited bool, serve *exec.Cmd) {
	t.Helper()
	for folder, limit := range map[string]string{"/sys/fs/cgroup": "memory.max", "/sys/fs/cgroup/memory": "memory.limit_in_bytes"} {
		group := filepath.Join(folder, "outboxie-overload-"+strconv.Itoa(os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) })                                             // after the process has ended
		if file, err := os.OpenFile(filepath.Join(group, limit), os.O_WRONLY, 0); err == nil { // without this file, the folder is no cgroup
			_, err = file.WriteString(strconv.Itoa(memoryOfCompose))
			require.NoError(t, err)
			require.NoError(t, file.Close())
			return true, exec.Command("sh", "-c", `echo $$ > "$1"/cgroup.procs && exec "$2" serve`, "sh", group, infra.Binary(t))
		}
	}
	return false, exec.Command(infra.Binary(t), "serve")
}

// memoryOf reads from Linux how much memory a process has: VmRSS is the present amount, VmHWM the highest one so far.
func memoryOf(t *testing.T, pid int, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		t.Skip("only Linux tells how much memory a process has, or the process is gone")
	}
	require.NoError(t, err)
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, found, "%s", text)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kib << 10
}
