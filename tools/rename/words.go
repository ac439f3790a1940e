package main

import (
	"strings"
	"unicode"
)

// names are the words of a copy.
type names struct {
	module   string // path of the Go module
	service  string // outboxie becomes this
	singular string // order becomes this
	plural   string // orders becomes this
	activity string // ordering, the package of the use cases, becomes this
}

// plural returns the plural of an English noun that is formed regularly.
func plural(noun string) string {
	switch {
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "x"), strings.HasSuffix(noun, "z"), strings.HasSuffix(noun, "ch"), strings.HasSuffix(noun, "sh"):
		return noun + "es"
	case strings.HasSuffix(noun, "y") && len(noun) > 1 && !isVowel(noun[len(noun)-2]):
		return noun[:len(noun)-1] + "ies"
	}
	return noun + "s"
}

// activity returns the name of the package whose use cases change a noun: invoicing for invoice.
func activity(noun string) string {
	if strings.HasSuffix(noun, "e") && !strings.HasSuffix(noun, "ee") {
		return noun[:len(noun)-1] + "ing"
	}
	return noun + "ing"
}

func isVowel(letter byte) bool { return strings.IndexByte("aeiou", letter) >= 0 }

// takesAn reports whether "an" stands before a noun, as before order. Nouns such as unit and user begin with the sound of "you".
func takesAn(noun string) bool {
	for _, sound := range []string{"uni", "use", "usa", "uti", "eu", "one"} {
		if strings.HasPrefix(noun, sound) {
			return false
		}
	}
	for _, silent := range []string{"hour", "honor", "heir"} {
		if strings.HasPrefix(noun, silent) {
			return true
		}
	}
	return isVowel(noun[0])
}

// inCase returns word in the case of model: all capitals, a capital first letter, or as it is.
func inCase(model, word string) string {
	switch {
	case len(model) > 1 && model == strings.ToUpper(model):
		return strings.ToUpper(word)
	case unicode.IsUpper(rune(model[0])):
		return strings.ToUpper(word[:1]) + word[1:]
	}
	return word
}

// part is a word within an identifier: order in orderID, ORDER in ORDER_ID.
type part struct{ from, to int }

// partsOf splits an identifier at underscores, between letters and digits, and before capital letters.
func partsOf(identifier string) []part {
	var parts []part
	kind := func(i int) byte {
		switch c := identifier[i]; {
		case c >= 'a' && c <= 'z':
			return 'a'
		case c >= 'A' && c <= 'Z':
			return 'A'
		case c >= '0' && c <= '9':
			return '0'
		}
		return '_'
	}
	for from := 0; from < len(identifier); {
		if kind(from) == '_' {
			from++
			continue
		}
		to := from + 1
		for ; to < len(identifier); to++ {
			before, here := kind(to-1), kind(to)
			startsWord := here == 'A' && to+1 < len(identifier) && kind(to+1) == 'a' && !isPluralOfCapitals(identifier[to:])
			if before != here && (before != 'A' || here != 'a' || to-from > 1) || before == 'A' && here == 'A' && startsWord {
				break
			}
		}
		parts = append(parts, part{from, to})
		from = to
	}
	return parts
}

// isPluralOfCapitals reports whether rest is the end of a word such as IDs.
func isPluralOfCapitals(rest string) bool {
	return len(rest) >= 2 && rest[1] == 's' && (len(rest) == 2 || !unicode.IsLower(rune(rest[2])))
}
