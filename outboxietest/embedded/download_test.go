package embedded_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// downloading returns options with which no installed Postgres is found.
func downloading(t *testing.T, url, version string) embedded.PostgresOptions {
	opts := options(folder(t))
	opts.Search = []string{}
	opts.CacheDir = opts.DataDir + "-cache"
	opts.BinaryRepositoryURL = url
	opts.Version = version
	return opts
}

// TestPostgresIsDownloadedOnce checks that Postgres is downloaded once, and a second start uses the copy.
func TestPostgresIsDownloadedOnce(t *testing.T) {
	t.Parallel()
	model := start(t, options(seeded(t)))
	repository := newRepository(t, model.Home(), model.Version())
	stop(t, model)

	opts := downloading(t, repository.URL, model.Version())
	first := start(t, opts)
	require.Equal(t, filepath.Join(opts.CacheDir, model.Version()), first.Home())
	require.Equal(t, model.Version(), first.Version())
	keep(t, first.URL())
	stop(t, first)
	require.Equal(t, 1, repository.downloads())

	second := start(t, opts)
	require.Equal(t, "kept", query(t, second.URL(), "SELECT v FROM t"))
	stop(t, second)

	// As if the first start had been interrupted while it unpacked.
	require.NoError(t, os.Remove(first.Home()+".complete"))
	require.NoError(t, os.Remove(filepath.Join(first.Home(), "bin", "initdb")))
	third := start(t, opts)
	require.Equal(t, "kept", query(t, third.URL(), "SELECT v FROM t"))
	stop(t, third)
	require.Equal(t, 1, repository.downloads())
}

// TestWithoutPostgresTheErrorSaysWhatToDo checks that a start fails with instructions when there is no Postgres and its download fails.
func TestWithoutPostgresTheErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	empty := httptest.NewServer(http.NotFoundHandler())
	defer empty.Close()
	forged := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.URL.Path))
	}))
	defer forged.Close()
	for url, reason := range map[string]string{gone.URL: "refused", empty.URL: "404", forged.URL: "checksums"} {
		_, err := embedded.StartPostgres(t.Context(), downloading(t, url, ""))
		for _, text := range []string{"apt install", "brew install", "OUTBOXIE_PG_HOME", "DATABASE_URL", "downloaded once", reason} {
			require.ErrorContains(t, err, text)
		}
	}
}

// TestCancelledStartLetsGoOfTheDownload checks that a cancelled start ends its download.
func TestCancelledStartLetsGoOfTheDownload(t *testing.T) {
	t.Parallel()
	asked, let := make(chan struct{}), make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(let)
	}))
	defer stuck.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := embedded.StartPostgres(ctx, downloading(t, stuck.URL, ""))
	require.ErrorIs(t, err, context.Canceled)
	<-let
}

// repository is a Maven repository with one Postgres.
type repository struct {
	*httptest.Server
	mu   sync.Mutex
	jars int
}

func newRepository(t *testing.T, home, version string) *repository {
	jar := pack(t, home)
	sum := sha256.Sum256(jar)
	r := &repository{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		name, checksum := strings.CutSuffix(path.Base(request.URL.Path), ".sha256")
		switch {
		case !strings.HasPrefix(request.URL.Path, "/io/zonky/test/postgres/") || !strings.HasSuffix(name, "-"+version+".jar"):
			http.NotFound(w, request)
		case checksum:
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:])))
		default:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.jars++
			_, _ = w.Write(jar)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *repository) downloads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.jars
}

// pack makes the archive that the library expects: a zip with a tar.xz of bin, lib and share. To be quick, nothing is
// compressed, and lib and share are links to the installed ones.
func pack(t *testing.T, home string) []byte {
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	for _, program := range []string{"postgres", "pg_ctl", "initdb"} {
		content, err := os.ReadFile(filepath.Join(home, "bin", program))
		require.NoError(t, err)
		require.NoError(t, files.WriteHeader(&tar.Header{Name: "bin/" + program, Mode: 0o755, Size: int64(len(content))}))
		_, err = files.Write(content)
		require.NoError(t, err)
	}
	for _, dir := range []string{"lib", "share"} {
		if _, err := os.Stat(filepath.Join(home, dir)); err == nil {
			link := &tar.Header{Name: dir, Typeflag: tar.TypeSymlink, Linkname: filepath.Join(home, dir), Mode: 0o777}
			require.NoError(t, files.WriteHeader(link))
		}
	}
	require.NoError(t, files.Close())

	var jar bytes.Buffer
	entries := zip.NewWriter(&jar)
	entry, err := entries.CreateHeader(&zip.FileHeader{Name: "postgres.txz", Method: zip.Store})
	require.NoError(t, err)
	_, err = entry.Write(storeXZ(archive.Bytes()))
	require.NoError(t, err)
	require.NoError(t, entries.Close())
	return jar.Bytes()
}

// storeXZ puts data into the xz format without compressing it: one block of uncompressed LZMA2 chunks.
func storeXZ(data []byte) []byte {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
	flags := []byte{0, 1} // the check is a CRC32

	header := []byte{2, 0, 0x21, 1, 0x16, 0, 0, 0} // 12 bytes in all, one filter: LZMA2 with a dictionary of 8 MiB
	block := append(header, sum(header)...)
	kind := byte(1) // the first chunk resets the dictionary
	for rest := data; len(rest) > 0; kind = 2 {
		n := min(len(rest), 1<<16)
		block = binary.BigEndian.AppendUint16(append(block, kind), uint16(n-1))
		block, rest = append(block, rest[:n]...), rest[n:]
	}
	block = append(block, 0)

	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(block)+4))
	index = pad(binary.AppendUvarint(index, uint64(len(data))))
	index = append(index, sum(index)...)
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)

	return bytes.Join([][]byte{
		{0xFD, '7', 'z', 'X', 'Z', 0}, flags, sum(flags), pad(block), sum(data), index, sum(footer), footer, {'Y', 'Z'},
	}, nil)
}
