// Package wording has the words in which people read the state of the system: the commands of cmd/outboxie print them, and the console shows
// them. Foreign texts are printable (see package printable). A console escapes them for HTML once more.
package wording

import (
	"fmt"
	"time"
)

// Age returns a duration for people: 7s, 3m12s, 5h12m, 3d4h.
func Age(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes, seconds := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// Timestamp returns a time for people.
func Timestamp(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format(time.RFC3339)
}

// Since returns how long ago t was, or "unknown" for the zero time.
func Since(now, t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return Age(now.Sub(t))
}

// Counted returns a number with its noun: 1 event, 2 events.
func Counted[T int | int64](count T, thing string) string {
	if count == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", count, thing)
}
