// Package infra gives tests real servers and processes of the program: a Postgres that all tests of a test binary share, with one database each,
// servers that a test may stop and kill, and a client of the API. A package's TestMain calls Main; a server starts when the first test asks
// for it.
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
// It runs the tests, stops the servers that the tests share, removes their data, and exits with the code of the tests.
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

// MainInMemory is Main for a package whose tests do not measure the disk. Servers keep their data in memory, if the machine has room there.
// A fresh database has several hundred files. To make and to remove them takes ten times as long on a disk.
func MainInMemory(m *testing.M) {
	shared.inMemory = true
	Main(m)
}

// Port returns a free port on which a server can be stopped and started again. The port is below the ports that the system gives to
// outgoing connections, so a client that reconnects cannot take it meanwhile.
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

// tempDir makes a folder for a server's data. It does not use t.TempDir(): if root runs the tests, Postgres runs as another user, who
// cannot reach that folder.
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
