package infra

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// OldNATSVersion is the version of the server that OldNATS builds. This version does not have atomic batches.
const OldNATSVersion = "2.11.4"

// oldNATS is that server, built once for all tests of a process.
var oldNATS = struct {
	once   sync.Once
	folder string
	failed error
}{}

// OldNATS returns the file of a NATS server that is too old for the relay. A separate module builds the server, because a module has only
// one version of each dependency. The build takes about 20 s if Go's build cache does not have it.
func OldNATS(t testing.TB) string {
	t.Helper()
	oldNATS.once.Do(func() {
		oldNATS.folder, oldNATS.failed = os.MkdirTemp("", "outboxie-nats-") //nolint:usetesting // shared by all tests of the process
		if oldNATS.failed != nil {
			return
		}
		_, here, _, _ := runtime.Caller(0)
		build := exec.Command("go", "build", "-o", oldNATS.folder+"/nats-server", "github.com/nats-io/nats-server/v2")
		build.Dir = filepath.Join(filepath.Dir(here), "..", "..", "tools", "nats-2.11")
		if said, err := build.CombinedOutput(); err != nil {
			oldNATS.failed = fmt.Errorf("build NATS %s: %w\n%s", OldNATSVersion, err, said)
		}
	})
	require.NoError(t, oldNATS.failed)
	return filepath.Join(oldNATS.folder, "nats-server")
}

// StartOldNATS starts an old server on a port of loopback. store may be the folder of another server, which must not run. StartOldNATS returns
// when the old server accepts connections.
func StartOldNATS(t testing.TB, port int, store string) *Process {
	t.Helper()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := Start(t, exec.Command(OldNATS(t), "--jetstream", "--store_dir", store, "--addr", "127.0.0.1", "--port", strconv.Itoa(port)))
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, waitTimeout, 10*time.Millisecond, "NATS %s does not listen on %s", OldNATSVersion, address)
	return p
}
