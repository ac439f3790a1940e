// Package infra gives tests real servers and processes of the program: a Postgres that all tests of a test binary share, with one database each,
// servers that a test may stop and kill, and a client of the API. A package's TestMain calls Main; a server starts when the first test asks for it.
package infra

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// Main is the TestMain of a package that uses this one:
//
//	func TestMain(m *testing.M) { infra.Main(m) }
//
// It runs the tests, stops and removes what they share, and exits with their code.
func Main(m *testing.M) {
	embedded.SuperviseIfAsked()
	natsIfAsked()
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the tests' Postgres:", err)
		code = max(code, 1)
	}
	_ = os.RemoveAll(program.folder) // a temporary folder, or nothing
	_ = os.RemoveAll(oldNATS.folder)
	os.Exit(code)
}

// MainInMemory is Main for a package whose tests measure no disk. Servers keep their data in memory, if the machine has room there:
// a fresh database is several hundred files, and on a disk it takes ten times as long to make them and to remove them.
func MainInMemory(m *testing.M) {
	shared.inMemory = true
	Main(m)
}

// Port picks a port that a server can come back to: it lies below those that the system deals to outgoing
// connections, so a client that tries to reconnect cannot take it meanwhile.
func Port(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 15000 + rand.IntN(15000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no free port between 15000 and 30000")
	return 0
}

// tempDir makes a folder for a server's data. Postgres runs as another user when root runs the tests, and that user
// could not reach into t.TempDir().
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.temporary(), "outboxie-test-") //nolint:usetesting // its folders are closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
