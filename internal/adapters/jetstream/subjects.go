package jetstream

import (
	"slices"
	"strings"
)

// literal reports whether a message can be published to subject: no token is empty, and there are no wildcards and no white space.
func literal(subject string) bool {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || token == "*" || token == ">" {
			return false
		}
	}
	return !strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// covers reports whether pattern matches everything that subject matches. subject may be a pattern itself.
func covers(pattern, subject string) bool {
	for {
		want, moreWanted, wanted := strings.Cut(pattern, ".")
		have, moreHad, had := strings.Cut(subject, ".")
		switch {
		case want == ">":
			return true
		case have == ">" || (have == "*" && want != "*") || (want != "*" && want != have):
			return false
		case !wanted || !had:
			return wanted == had
		}
		pattern, subject = moreWanted, moreHad
	}
}

func coveredByAny(subject string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return covers(pattern, subject) })
}
