package fault

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSkeletonsKeepFingerprints checks with many random reasons that Fingerprints returns what NewFingerprint returns, and that reasons which
// differ only in numbers and UUIDs share one skeleton.
func TestSkeletonsKeepFingerprints(t *testing.T) {
	const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	parts := []string{
		"status", "code", "(SQLSTATE", "sqlstate", "answers", "Status:", "404", "23505)", "503,", "7", "0x1f", "0x", "10x2f", "12ms", "3h20m", "1.5e-7",
		uuid, "x" + uuid, uuid + "-7", uuid + "_a1", "abcdefab-abcd-abcd-abcd-abcdefabcdef", "deadbeef01", "cus_Kf83hdk20dkAl29x", "2026-11-30T08:00:00Z",
		"08:15:01", "10.0.0.1:5432", "[::1]:80", "db-1.example.com:5432", "localhost:80", "order", "v2", "+7", "-12", "é1é", "\"", "'", "`", "\"a 1\"",
		"it's", "\\", "(", ")", ",", " ", " ", " ", "\t", "\n", "\x00", "\xff", "<n>", "<id>", strings.Repeat("9", 400), "\u00a0",
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same reasons in each run
	var prints Fingerprints
	for range 20_000 {
		var reason strings.Builder
		for range 1 + random.IntN(10) {
			reason.WriteString(parts[random.IntN(len(parts))])
			if random.IntN(2) == 0 {
				reason.WriteByte(' ')
			}
		}
		require.Equal(t, NewFingerprint(reason.String()), prints.Of(reason.String()), "%q", reason.String())
	}
	require.Len(t, prints.known, maxKnown)
	prints = Fingerprints{}
	for n := range 10_000 {
		prints.Of(fmt.Sprintf("handle %08x-9dad-11d1-80b4-00c04fd430c8: no address for customer %d", n, 1_000_000+n))
	}
	require.Len(t, prints.known, 1)
}
