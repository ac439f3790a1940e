package fault_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// TestFingerprintPattern checks which parts of a reason a fingerprint keeps.
func TestFingerprintPattern(t *testing.T) {
	for reason, want := range map[string]string{
		"":                 "no reason",
		" \n\t\n":          "no reason",
		"no address":       "no address",
		"it's mine: ?0":    "it's mine: ?<n>",
		"  a   b\tc  ":     "a b c",
		"héllo \xff wörld": "héllo \uFFFD wörld",

		"customer 550e8400-e29b-41d4-a716-446655440000 is unknown": "customer <id> is unknown",
		"order/550E8400-E29B-41D4-A716-446655440000: no stock":     "order/<id>: no stock",
		"commit 4f2a9c0d failed":                                   "commit <id> failed",
		"token 01ARZ3NDEKTSV4RRFFQ69G5FAV is spent":                "token <id> is spent",

		"at 0xc000123abc":               "at <n>",
		"the defaced facade":            "the defaced facade",
		"amount 12,345.67 is above 1e6": "amount <n> is above <n>",
		"want -5, got +7":               "want <n>, got <n>",
		"took 1.5s of 200ms":            "took <n> of <n>",
		"took 1m30s":                    "took <n>",
		"too large: 1048577 bytes":      "too large: <n> bytes",
		"ids 1, 2, 3 are taken":         "ids <n> are taken",
		"ids 1,2 are taken":             "ids <n> are taken",

		`no customer "Ann \"A\" O'Neil" in 'the north'`:       "no customer <value> in <value>",
		"field `amount` is wrong":                             "field <value> is wrong",
		`cut off: "what nobody clo`:                           "cut off: <value>",
		"don't, can't, won't":                                 "don't, can't, won't",
		"the customer's 'o'clock' isn't":                      "the customer's <value> isn't",
		"dial tcp 10.0.0.7:5432: connect: connection refused": "dial tcp <address>: connect: connection refused",
		"dial tcp [::1]:4222: refused":                        "dial tcp <address>: refused",
		"dial db-1.internal:5432 refused":                     "dial <address> refused",
		"at 2026-11-29T16:05:59.123456Z":                      "at <time>",
		"at 2026-11-29 16:05:59.123+01:00 it failed":          "at <time> it failed",

		"the handler panicked: no 7\ngoroutine 12 [running]:\nx.go": "the handler panicked: no <n>",
		"\n\nsecond line":                       "second line",
		"ERROR: duplicate key (SQLSTATE 23505)": "ERROR: duplicate key (SQLSTATE 23505)",
		"ERROR: too long (SQLSTATE=22001 7)":    "ERROR: too long (SQLSTATE=<n>)",
	} {
		require.Equal(t, want, fault.NewFingerprint(reason).Pattern, "%q", reason)
	}
}

// TestFingerprintID checks that reasons with the same cause have the same id, and that different causes have different ids. An id stays the
// same in later versions of the program.
func TestFingerprintID(t *testing.T) {
	require.Equal(t, "5917eeb97442", fault.NewFingerprint("no address").ID)
	one := fault.NewFingerprint("customer 550e8400-e29b-41d4-a716-446655440000 owes 12.50 since 2026-11-29")
	two := fault.NewFingerprint("customer 018f0000-0000-7000-8000-000000000001 owes 3 since 2024-01-01")
	require.Equal(t, one, two)
	require.NotEqual(t, one.ID, fault.NewFingerprint("customer 1 owes 3").ID)
	require.NotEqual(t, fault.NewFingerprint("x (SQLSTATE 23505)"), fault.NewFingerprint("x (SQLSTATE 23503)"))
}

// TestDifferentFaultsDiffer checks that faults with different error codes have different fingerprints.
func TestDifferentFaultsDiffer(t *testing.T) {
	seen := make(map[string]string)
	for _, reason := range []string{
		"shop.example.com answers 500 Internal Server Error", "shop.example.com answers 503 Service Unavailable", "shop.example.com answers 520 ",
		"shop.example.com answers 525 ", "unexpected status 404", "unexpected status 500", "status code: 404", "code 404", "(code 410)",
		"ERROR: x (SQLSTATE 23505)", "ERROR: x (SQLSTATE 23503)", "dial tcp 10.0.0.7:5432: connection refused", "dial tcp 10.0.0.7:5432: i/o timeout",
		"1", "1 2 3 of", "\x1b[31m", "\x1b[31mred", "\xff", "\x00", "no customer <n>", "no order <n>",
	} {
		print := fault.NewFingerprint(reason)
		require.Empty(t, seen[print.ID], "%q has the fingerprint of %q: %s", seen[print.ID], reason, print.Pattern)
		seen[print.ID] = reason
	}
	require.Equal(t, fault.NewFingerprint("the port of code 40412 is taken"), fault.NewFingerprint("the port of code 7 is taken"))
}

// TestFingerprintIsBounded checks that a long reason has a short pattern, which ends with a whole character.
func TestFingerprintIsBounded(t *testing.T) {
	long := fault.NewFingerprint(strings.Repeat("é", fault.LongestReason))
	require.LessOrEqual(t, len(long.Pattern), fault.LongestPattern)
	require.True(t, utf8.ValidString(long.Pattern))
	same := strings.Repeat("a ", fault.LongestReason)
	require.Equal(t, fault.NewFingerprint(same+"b"), fault.NewFingerprint(same+"c"))
}

// FuzzFingerprint checks that each fingerprint is bounded, valid text, and the fingerprint of its own pattern.
func FuzzFingerprint(f *testing.F) {
	for _, seed := range []string{
		"", "no address", `a "b\" c`, "'a' 1'b'2 'c'3", "2026-11-29T16:05:59Z 10.0.0.7:1 [::1]:2 0xff 1e5", strings.Repeat("'1", 400), "\xff\x00\n\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reason string) {
		one := fault.NewFingerprint(reason)
		if len(one.ID) != 12 || len(one.Pattern) > fault.LongestPattern || one.Pattern == "" || !utf8.ValidString(one.Pattern) ||
			strings.ContainsAny(one.Pattern, "\n\x00") {
			t.Fatalf("%q has %+v", reason, one)
		}
		if again := fault.NewFingerprint(one.Pattern); again != one {
			t.Fatalf("%q has %+v, and its pattern %+v", reason, one, again)
		}
	})
}

func BenchmarkFingerprint(b *testing.B) {
	const reason = "dial tcp 10.0.0.%d:5432: customer %d of order 550e8400-e29b-41d4-a716-446655440000 has no address"
	for i := 0; b.Loop(); i++ {
		fault.NewFingerprint(fmt.Sprintf(reason, i%256, i))
	}
}
