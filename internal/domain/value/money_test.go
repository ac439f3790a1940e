package value_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

func TestParseMoneyAccepts(t *testing.T) {
	for _, accepted := range []struct {
		text     string
		currency value.Currency
		minor    int64
		decimal  string
	}{
		{"100.50", "USD", 10050, "100.50"},
		{"100.5", "USD", 10050, "100.50"},
		{"100", "USD", 10000, "100.00"},
		{"1e2", "USD", 10000, "100.00"},
		{"1E+2", "USD", 10000, "100.00"},
		{"1.000e2", "USD", 10000, "100.00"}, // one decimal: 100.0
		{"12345e-2", "USD", 12345, "123.45"},
		{"0.01", "USD", 1, "0.01"},
		{"1e-2", "USD", 1, "0.01"},
		{"0.1", "EUR", 10, "0.10"},
		{"100", "JPY", 100, "100"},
		{"1e3", "JPY", 1000, "1000"},
		{"1.5e1", "JPY", 15, "15"},
		{"1.234", "KWD", 1234, "1.234"},
		{"1.2", "KWD", 1200, "1.200"},
		{"92233720368547758.07", "USD", math.MaxInt64, "92233720368547758.07"},
		{"9223372036854775807", "JPY", math.MaxInt64, "9223372036854775807"},
		{"9.223372036854775807e18", "JPY", math.MaxInt64, "9223372036854775807"},
	} {
		got, err := value.ParseMoney(accepted.text, accepted.currency)
		require.NoError(t, err, accepted.text)
		require.Equal(t, value.NewMoney(accepted.minor, accepted.currency), got, accepted.text)
		require.Equal(t, accepted.decimal, got.Decimal())
		require.Equal(t, accepted.decimal+" "+string(accepted.currency), got.String())
		require.Positive(t, got.Minor())
	}
}

// The reasons for which ParseMoney refuses a text.
const (
	notANumber      = "must be a decimal number"
	isZero          = "greater than zero"
	isNegative      = "not negative"
	tooManyDecimals = "more decimals"
	isTooLarge      = "too large"
)

var refusedAmounts = []struct {
	text     string
	currency value.Currency
	reason   string
}{
	{"100.500", "USD", tooManyDecimals}, // literally: a zero is a decimal too
	{"100.501", "USD", tooManyDecimals},
	{"1e-3", "USD", tooManyDecimals},
	{"100000e-3", "USD", tooManyDecimals},
	{"1.0", "JPY", tooManyDecimals},
	{"1.2345", "KWD", tooManyDecimals},
	{"1e-99999999999999999999", "USD", tooManyDecimals},
	{"0", "USD", isZero},
	{"0.00", "USD", isZero},
	{"0e5", "USD", isZero},
	{"-0", "USD", isZero},
	{"-1", "USD", isNegative},
	{"-0.01", "USD", isNegative},
	{"-1e2", "USD", isNegative},
	{"92233720368547758.08", "USD", isTooLarge},
	{"9223372036854775808", "JPY", isTooLarge},
	{"1e17", "USD", isTooLarge},
	{"1e400", "USD", isTooLarge},
	{"1e99999999999999999999", "USD", isTooLarge},
	{"18446744073709551617", "JPY", isTooLarge}, // 1 when it wraps around
	{"", "USD", notANumber},
	{" ", "USD", notANumber},
	{"NaN", "USD", notANumber},
	{"nan", "USD", notANumber},
	{"Infinity", "USD", notANumber},
	{"-Infinity", "USD", notANumber},
	{"inf", "USD", notANumber},
	{"null", "USD", notANumber},
	{"true", "USD", notANumber},
	{"+1", "USD", notANumber},
	{"01", "USD", notANumber},
	{"00.5", "USD", notANumber},
	{"-01", "USD", notANumber},
	{".5", "USD", notANumber},
	{"5.", "USD", notANumber},
	{"-", "USD", notANumber},
	{"1e", "USD", notANumber},
	{"1e+", "USD", notANumber},
	{"1e+-2", "USD", notANumber},
	{"1e-+2", "USD", notANumber},
	{"1e--2", "USD", notANumber},
	{"1e2.0", "USD", notANumber},
	{"e2", "USD", notANumber},
	{"1e2e2", "USD", notANumber},
	{"1.2.3", "USD", notANumber},
	{"1,5", "USD", notANumber},
	{"1,000.00", "USD", notANumber},
	{"1_000", "USD", notANumber},
	{"0x10", "USD", notANumber},
	{"0b1", "USD", notANumber},
	{"1 ", "USD", notANumber},
	{" 1", "USD", notANumber},
	{"1\n", "USD", notANumber},
	{"$1", "USD", notANumber},
	{"1 USD", "USD", notANumber},
	{`"1"`, "USD", notANumber},
	{"١", "USD", notANumber}, // an Arabic digit
	{"1\x00", "USD", notANumber},
	{strings.Repeat("1", 101), "USD", notANumber},
	{"0." + strings.Repeat("0", 60) + "1", "USD", tooManyDecimals},
}

// TestParseMoneyRefuses checks that ParseMoney refuses each of these amounts, and names the field and the reason.
func TestParseMoneyRefuses(t *testing.T) {
	for _, refused := range refusedAmounts {
		got, err := value.ParseMoney(refused.text, refused.currency)
		want := value.ErrMoney
		if refused.reason == isTooLarge {
			want = value.ErrTooLarge
		}
		require.ErrorIs(t, err, want, "%q gave %v", refused.text, got)
		require.Zero(t, got)
		field := fieldsOf(t, err)[0]
		require.Equal(t, "amount", field.Name)
		require.Contains(t, field.Reason, refused.reason, "%q", refused.text)
	}
}

func TestDecimalOfAnyAmount(t *testing.T) {
	for _, stored := range []struct {
		money value.Money
		want  string
	}{
		{value.NewMoney(0, "USD"), "0.00"},
		{value.NewMoney(5, "USD"), "0.05"},
		{value.NewMoney(-5, "USD"), "-0.05"},
		{value.NewMoney(-10050, "USD"), "-100.50"},
		{value.NewMoney(-7, "JPY"), "-7"},
		{value.NewMoney(7, "KWD"), "0.007"},
		{value.NewMoney(math.MinInt64, "KWD"), "-9223372036854775.808"},
	} {
		require.Equal(t, stored.want, stored.money.Decimal())
		require.Equal(t, stored.money.Minor() <= 0, errors.Is(stored.money.Check(), value.ErrMoney))
	}
}

func TestDecimalAndParseMoneyAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]value.Currency{"JPY", "USD", "KWD"}).Draw(t, "currency")
		money := value.NewMoney(rapid.Int64Range(1, math.MaxInt64).Draw(t, "minor"), currency)
		read, err := value.ParseMoney(money.Decimal(), currency)
		if err != nil || read != money {
			t.Fatalf("%s was read as %s, %v", money, read, err)
		}
	})
}

func TestCurrencies(t *testing.T) {
	for code, decimals := range map[string]int{"USD": 2, "EUR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "TND": 3, "CHF": 2} {
		currency, err := value.ParseCurrency(code)
		require.NoError(t, err)
		require.Equal(t, decimals, currency.Decimals())
		require.Equal(t, code, currency.String())
	}
	for _, code := range []string{"", "usd", "Usd", "US", "USDD", " USD", "XXX", "XAU", "DEM", "ABC", "U$D"} {
		_, err := value.ParseCurrency(code)
		require.ErrorIs(t, err, value.ErrCurrency, "%q", code)
		require.Equal(t, "currency", fieldsOf(t, err)[0].Name)
	}
	_, err := value.ParseCurrency(string(value.DefaultCurrency))
	require.NoError(t, err)
}
