package value

import (
	"math"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrMoney reports that a text is not an amount of money, or that the amount is not greater than zero or has too many decimals.
var ErrMoney = fault.New(fault.Invalid, "invalid_amount", "not an amount of money")

// ErrTooLarge reports that an amount is larger than MaxAmount.
var ErrTooLarge = fault.New(fault.Invalid, "amount_too_large", "the amount is too large")

// MaxAmount is the largest amount that a new aggregate may have, in minor units of its currency: 10,000,000,000.00 USD. Subscribers
// add up the amounts of a customer. The sum of 9,223,372 of the largest amounts fits into 64 bits.
const MaxAmount int64 = 1_000_000_000_000

// Money is an exact amount: a whole number of the currency's minor units (cents for USD, yen for JPY).
type Money struct {
	minor    int64
	currency Currency
}

// NewMoney returns an amount that was stored before, in minor units. It does not validate the amount.
func NewMoney(minor int64, currency Currency) Money { return Money{minor: minor, currency: currency} }

// ParseMoney reads an amount from text, which must be a number as JSON writes it (100.50, 100.5, 1e2). It never uses floating
// point. It fails with ErrMoney if the text is not such a number, or if the amount is not greater than zero or has more decimals
// than the currency. It fails with ErrTooLarge if the amount in minor units does not fit into 64 bits.
func ParseMoney(text string, currency Currency) (Money, error) {
	refuse := func(reason string) (Money, error) {
		return Money{}, ErrMoney.With("amount %s", reason).On("amount", reason)
	}
	number, ok := scanNumber(text)
	switch {
	case !ok:
		return refuse("must be a decimal number such as 100.50")
	case number.digits == "":
		return refuse("must be greater than zero")
	case number.negative:
		return refuse("must be greater than zero, not negative")
	}
	shift := currency.Decimals() - number.decimals
	if shift < 0 {
		return refuse("has more decimals than " + currency.String() + " has (" + strconv.Itoa(currency.Decimals()) + ")")
	}
	if shift > 19 || len(number.digits)+shift > 19 {
		return Money{}, tooLarge(currency)
	}
	minor, err := strconv.ParseInt(number.digits+strings.Repeat("0", shift), 10, 64)
	if err != nil {
		return Money{}, tooLarge(currency)
	}
	return Money{minor: minor, currency: currency}, nil
}

// Check fails with ErrMoney if the amount is not greater than zero, and with ErrTooLarge if it is larger than MaxAmount.
func (m Money) Check() error {
	switch {
	case m.minor <= 0:
		return ErrMoney.With("the amount must be greater than zero").On("amount", "must be greater than zero")
	case m.minor > MaxAmount:
		return tooLarge(m.currency)
	}
	return nil
}

// tooLarge returns an ErrTooLarge that names the largest amount of a currency.
func tooLarge(currency Currency) error {
	reason := "is too large: the largest is " + NewMoney(MaxAmount, currency).String()
	return ErrTooLarge.With("amount %s", reason).On("amount", reason)
}

// decimal is digits x 10^-decimals; digits has no leading zero and is empty for zero.
type decimal struct {
	negative bool
	digits   string
	decimals int
}

// scanNumber reads a JSON number (RFC 8259, section 6).
func scanNumber(text string) (decimal, bool) {
	const longest = 100 // far more characters than an amount of 64 bits needs; a longer text is refused at once
	if len(text) > longest {
		return decimal{}, false
	}
	rest, negative := strings.CutPrefix(text, "-")
	whole, rest := takeDigits(rest)
	if whole == "" || (len(whole) > 1 && whole[0] == '0') {
		return decimal{}, false
	}
	fraction := ""
	if after, found := strings.CutPrefix(rest, "."); found {
		if fraction, rest = takeDigits(after); fraction == "" {
			return decimal{}, false
		}
	}
	exponent := 0
	if rest != "" {
		if rest[0] != 'e' && rest[0] != 'E' {
			return decimal{}, false
		}
		sign := rest[1:]
		digits := strings.TrimPrefix(strings.TrimPrefix(sign, "-"), "+")
		if left, tail := takeDigits(digits); left == "" || tail != "" || len(sign)-len(digits) > 1 {
			return decimal{}, false
		}
		var err error
		if exponent, err = strconv.Atoi(sign); err != nil || exponent > math.MaxInt16 || exponent < math.MinInt16 {
			exponent = math.MaxInt16 // out of the range of every currency, with either sign
			if strings.HasPrefix(sign, "-") {
				exponent = -math.MaxInt16
			}
		}
	}
	return decimal{
		negative: negative,
		digits:   strings.TrimLeft(whole+fraction, "0"),
		decimals: len(fraction) - exponent,
	}, true
}

func takeDigits(text string) (digits, rest string) {
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	return text[:end], text[end:]
}

// Minor returns the amount in minor units.
func (m Money) Minor() int64 { return m.minor }

// Currency returns the amount's currency.
func (m Money) Currency() Currency { return m.currency }

// Decimal returns the amount with as many decimals as the currency has: 100.50.
func (m Money) Decimal() string {
	digits, sign := strconv.FormatInt(m.minor, 10), ""
	if m.minor < 0 {
		digits, sign = digits[1:], "-"
	}
	decimals := m.currency.Decimals()
	if decimals == 0 {
		return sign + digits
	}
	if missing := decimals + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return sign + digits[:len(digits)-decimals] + "." + digits[len(digits)-decimals:]
}

// String returns the amount and its currency: 100.50 USD.
func (m Money) String() string { return m.Decimal() + " " + m.currency.String() }
