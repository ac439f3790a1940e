package value_test

import (
	"math"
	"math/big"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// number is a JSON number (RFC 8259, section 6): sign, whole part, fraction, exponent.
var number = regexp.MustCompile(`\A(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?\z`)

// verdict computes with big numbers how many minor units text is. If text is not an amount, verdict returns the reason.
func verdict(text string, decimals int) (minor *big.Int, reason string) {
	parts := number.FindStringSubmatch(text)
	if parts == nil || len(text) > 100 {
		return nil, "must be a decimal number"
	}
	sign, fraction := parts[1], parts[3]
	digits, _ := new(big.Int).SetString(parts[2]+fraction, 10)
	exponent := new(big.Int)
	if parts[4] != "" {
		exponent.SetString(parts[4], 10)
	}
	zeros := exponent.Add(exponent, big.NewInt(int64(decimals-len(fraction)))) // number of zeros to append to digits, for minor units
	switch {
	case digits.Sign() == 0:
		return nil, "greater than zero"
	case sign == "-":
		return nil, "not negative"
	case zeros.Sign() < 0:
		return nil, "more decimals"
	case zeros.Cmp(big.NewInt(18)) > 0:
		return nil, "too large"
	}
	minor = digits.Mul(digits, new(big.Int).Exp(big.NewInt(10), zeros, nil))
	if minor.Cmp(big.NewInt(math.MaxInt64)) > 0 {
		return nil, "too large"
	}
	return minor, ""
}

// FuzzParseMoney checks that ParseMoney returns exactly the amount of an accepted text, and the right reason for a refused text.
func FuzzParseMoney(f *testing.F) {
	for _, seed := range []string{
		"100.50", "100.5", "1e2", "1.000e2", "0", "-1", "1e-2", "1E+17", "NaN", "", "-", ".", "1.", "01", "1e", "0e0", "-0.0e-9",
		"92233720368547758.07", "92233720368547758.08", "9223372036854775807", "1e99999999999999999999", "1e-99999999999999999999",
		"10e18", "1e18", "1e32768", "1e-32769", "0.000000000000000000000000000000000000000000001e45", "1\n", "+1", "1_0", "٣",
	} {
		for decimals := range uint8(3) {
			f.Add(seed, decimals)
		}
	}
	f.Fuzz(func(t *testing.T, text string, pick uint8) {
		currency := []value.Currency{"JPY", "USD", "KWD"}[pick%3]
		minor, reason := verdict(text, currency.Decimals())
		money, err := value.ParseMoney(text, currency)
		if reason != "" {
			want := value.ErrMoney
			if reason == "too large" {
				want = value.ErrTooLarge
			}
			require.ErrorIs(t, err, want, "%q was read as %s", text, money)
			require.Contains(t, fieldsOf(t, err)[0].Reason, reason, "%q", text)
			require.Zero(t, money)
			return
		}
		require.NoError(t, err, "%q", text)
		require.Equal(t, value.NewMoney(minor.Int64(), currency), money, "%q", text)
		require.Positive(t, money.Minor())
		shown, err := value.ParseMoney(money.Decimal(), currency)
		require.NoError(t, err, "%q is shown as %q", text, money.Decimal())
		require.Equal(t, money, shown)
	})
}
