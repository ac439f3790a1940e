package fault

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKnown bounds the memory of Fingerprints.
const maxKnown = 1000

// Fingerprints returns the same fingerprints as NewFingerprint. It is fast for reasons that differ only in their numbers and UUIDs, because
// it remembers up to a thousand fingerprints. The zero value is ready. It is not safe for concurrent use.
type Fingerprints struct{ known map[string]Fingerprint }

// Of returns the fingerprint of a reason.
func (f *Fingerprints) Of(reason string) Fingerprint {
	short := skeleton(reason)
	if print, has := f.known[short]; has {
		return print
	}
	print := NewFingerprint(short)
	if f.known == nil {
		f.known = make(map[string]Fingerprint)
	}
	if len(f.known) < maxKnown {
		f.known[short] = print
	}
	return print
}

// skeleton returns a shorter reason with the same fingerprint. Reasons that differ only in their numbers and UUIDs often have the same
// skeleton. Fields that may be error codes stay. The other digits become 1, except the first digit of 0x.
func skeleton(reason string) string {
	line := firstLine(cut(reason, LongestReason))
	if !strings.ContainsFunc(line, isDigit) || !utf8.ValidString(line) {
		return line
	}
	lower := strings.ToLower(line)
	if strings.Contains(lower, "sqlstate") && strings.ContainsAny(line, "\"'`") {
		return line // a field after the word may begin inside of quotes
	}
	mayHaveCode := slices.ContainsFunc(codeWords, func(word string) bool { return strings.Contains(lower, word) })
	bytes, before, from := []byte(line), "", -1
	end := func(to int) {
		if from >= 0 {
			if !mayHaveCode || !namesCode(before) {
				simplify(bytes[from:to])
			}
			before, from = line[from:to], -1
		}
	}
	for i, r := range line {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			end(i)
		} else if from < 0 {
			from = i
		}
	}
	end(len(line))
	return string(bytes)
}

// codeWords are the words after which isCode accepts an error code.
var codeWords = []string{"sqlstate", "answers", "status", "code"}

// namesCode reports whether the field after this one may be an error code. It reports more fields than isCode.
func namesCode(before string) bool {
	before = strings.ToLower(strings.Trim(before, "(:="))
	return slices.ContainsFunc(codeWords, func(word string) bool { return strings.HasSuffix(before, word) })
}

const lengthOfUUID = 36

// simplify replaces the digits and the UUIDs of a field.
func simplify(field []byte) {
	for i := 0; i < len(field); i++ {
		if beginsUUID(field, i) {
			for j := i; j < i+lengthOfUUID; j++ {
				if field[j] != '-' {
					field[j] = '1'
				}
			}
			i += lengthOfUUID - 1
			continue
		}
		if digit := field[i] >= '0' && field[i] <= '9'; digit && (field[i] != '0' || i+1 == len(field) || field[i+1] != 'x') {
			field[i] = '1'
		}
	}
}

// beginsUUID reports whether a UUID with a digit begins at i, and no letter, digit, hyphen or other part of a word is beside it.
func beginsUUID(field []byte, i int) bool {
	end := i + lengthOfUUID
	if end > len(field) || i > 0 && besideWord(field[i-1]) || end < len(field) && besideWord(field[end]) {
		return false
	}
	digits := 0
	for at, char := range field[i:end] {
		hyphen := at == 8 || at == 13 || at == 18 || at == 23
		switch {
		case hyphen != (char == '-'):
			return false
		case char >= '0' && char <= '9':
			digits++
		case !hyphen && !strings.ContainsRune("abcdefABCDEF", rune(char)):
			return false
		}
	}
	return digits > 0
}

func besideWord(char byte) bool {
	return char == '-' || char == '_' || char >= utf8.RuneSelf || isDigit(rune(char)) || unicode.IsLetter(rune(char))
}
