package value

import (
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrCurrency reports that a text is not a currency.
var ErrCurrency = fault.New(fault.Invalid, "invalid_currency", "not an ISO 4217 currency code")

// DefaultCurrency is the currency of an amount whose request names no currency.
const DefaultCurrency Currency = "USD"

// Currency is an ISO 4217 code: three capital letters.
type Currency string

// ParseCurrency accepts the codes of ISO 4217, in capital letters. It fails with ErrCurrency.
func ParseCurrency(code string) (Currency, error) {
	if _, known := currencyDecimals[Currency(code)]; !known {
		const reason = "must be an ISO 4217 code of three capital letters such as USD"
		return "", ErrCurrency.With("currency %s", reason).On("currency", reason)
	}
	return Currency(code), nil
}

// Decimals returns how many decimals the currency has: 2 for USD, 0 for JPY, 3 for KWD.
func (c Currency) Decimals() int {
	if decimals, known := currencyDecimals[c]; known {
		return decimals
	}
	return 2
}

// String returns the code.
func (c Currency) String() string { return string(c) }

// currencyDecimals has the number of decimals of each code that was in list one of ISO 4217 in 2025. Codes of funds, metals and tests are
// left out. A code that ISO withdraws later, such as BGN, stays here, because stored events may have it.
var currencyDecimals = func() map[Currency]int {
	byDecimals := map[int]string{
		0: `BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF`,
		2: `AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
			CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD
			KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO
			NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
			THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG`,
		3: `BHD IQD JOD KWD LYD OMR TND`,
	}
	decimals := make(map[Currency]int)
	for digits, codes := range byDecimals {
		for _, code := range strings.Fields(codes) {
			decimals[Currency(code)] = digits
		}
	}
	return decimals
}()
