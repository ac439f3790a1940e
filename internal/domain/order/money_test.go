package order_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

func TestParseMoneyAccepts(t *testing.T) {
	for _, accepted := range []struct {
		text     string
		currency order.Currency
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
		got, err := order.ParseMoney(accepted.text, accepted.currency)
		require.NoError(t, err, accepted.text)
		require.Equal(t, order.NewMoney(accepted.minor, accepted.currency), got, accepted.text)
		require.Equal(t, accepted.decimal, got.Decimal())
		require.Equal(t, accepted.decimal+" "+string(accepted.currency), got.String())
		require.True(t, got.IsPositive())
	}
}

func TestParseMoneyRefuses(t *testing.T) {
	const number, zero, negative, decimals, large = "must be a decimal number", "greater than zero", "not negative",
		"more decimals", "too large"
	for _, refused := range []struct {
		text     string
		currency order.Currency
		reason   string
	}{
		{"100.500", "USD", decimals}, // literally: a zero is a decimal too
		{"100.501", "USD", decimals},
		{"1e-3", "USD", decimals},
		{"100000e-3", "USD", decimals},
		{"1.0", "JPY", decimals},
		{"1.2345", "KWD", decimals},
		{"1e-99999999999999999999", "USD", decimals},
		{"0", "USD", zero},
		{"0.00", "USD", zero},
		{"0e5", "USD", zero},
		{"-0", "USD", zero},
		{"-1", "USD", negative},
		{"-0.01", "USD", negative},
		{"-1e2", "USD", negative},
		{"92233720368547758.08", "USD", large},
		{"9223372036854775808", "JPY", large},
		{"1e17", "USD", large},
		{"1e400", "USD", large},
		{"1e99999999999999999999", "USD", large},
		{"18446744073709551617", "JPY", large}, // 1 when it wraps around
		{"", "USD", number},
		{" ", "USD", number},
		{"NaN", "USD", number},
		{"nan", "USD", number},
		{"Infinity", "USD", number},
		{"-Infinity", "USD", number},
		{"inf", "USD", number},
		{"null", "USD", number},
		{"true", "USD", number},
		{"+1", "USD", number},
		{"01", "USD", number},
		{"00.5", "USD", number},
		{"-01", "USD", number},
		{".5", "USD", number},
		{"5.", "USD", number},
		{"-", "USD", number},
		{"1e", "USD", number},
		{"1e+", "USD", number},
		{"1e+-2", "USD", number},
		{"1e-+2", "USD", number},
		{"1e--2", "USD", number},
		{"1e2.0", "USD", number},
		{"e2", "USD", number},
		{"1e2e2", "USD", number},
		{"1.2.3", "USD", number},
		{"1,5", "USD", number},
		{"1,000.00", "USD", number},
		{"1_000", "USD", number},
		{"0x10", "USD", number},
		{"0b1", "USD", number},
		{"1 ", "USD", number},
		{" 1", "USD", number},
		{"1\n", "USD", number},
		{"$1", "USD", number},
		{"1 USD", "USD", number},
		{`"1"`, "USD", number},
		{"١", "USD", number}, // an Arabic digit
		{"1\x00", "USD", number},
		{strings.Repeat("1", 101), "USD", number},
		{"0." + strings.Repeat("0", 60) + "1", "USD", decimals},
	} {
		got, err := order.ParseMoney(refused.text, refused.currency)
		want := order.ErrMoney
		if refused.reason == large {
			want = order.ErrTooLarge
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
		money order.Money
		want  string
	}{
		{order.NewMoney(0, "USD"), "0.00"},
		{order.NewMoney(5, "USD"), "0.05"},
		{order.NewMoney(-5, "USD"), "-0.05"},
		{order.NewMoney(-10050, "USD"), "-100.50"},
		{order.NewMoney(-7, "JPY"), "-7"},
		{order.NewMoney(7, "KWD"), "0.007"},
		{order.NewMoney(math.MinInt64, "KWD"), "-9223372036854775.808"},
	} {
		require.Equal(t, stored.want, stored.money.Decimal())
		require.False(t, stored.money.Minor() <= 0 && stored.money.IsPositive())
	}
}

func TestDecimalAndParseMoneyAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]order.Currency{"JPY", "USD", "KWD"}).Draw(t, "currency")
		money := order.NewMoney(rapid.Int64Range(1, math.MaxInt64).Draw(t, "minor"), currency)
		read, err := order.ParseMoney(money.Decimal(), currency)
		if err != nil || read != money {
			t.Fatalf("%s was read as %s, %v", money, read, err)
		}
	})
}

func TestCurrencies(t *testing.T) {
	for code, decimals := range map[string]int{"USD": 2, "EUR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "TND": 3, "CHF": 2} {
		currency, err := order.ParseCurrency(code)
		require.NoError(t, err)
		require.Equal(t, decimals, currency.Decimals())
		require.Equal(t, code, currency.String())
	}
	for _, code := range []string{"", "usd", "Usd", "US", "USDD", " USD", "XXX", "XAU", "DEM", "ABC", "U$D"} {
		_, err := order.ParseCurrency(code)
		require.ErrorIs(t, err, order.ErrCurrency, "%q", code)
		require.Equal(t, "currency", fieldsOf(t, err)[0].Name)
	}
	_, err := order.ParseCurrency(string(order.DefaultCurrency))
	require.NoError(t, err)
}
