package postgres

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"math"
	"strings"
	"sync/atomic"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// validTime holds for times that can be written with a year of four digits in every time zone. Postgres has others, also
// infinite ones, which drivers cannot read and subscribers could not either.
const validTime = `(o.recorded_at >= '0001-01-02 00:00:00+00' AND o.recorded_at < '9999-12-31 00:00:00+00')`

// Why a row can never be published.
const (
	invalidTime    = "its recorded_at is infinite or outside of the years 1 to 9999"
	invalidHeaders = "its headers are not an object of strings"
)

// sizes remembers how large payloads are. To know how long the text of one is, Postgres has to read all of it, so a
// statement should not ask that about many more entries than fit into the slice.
type sizes struct {
	typical atomic.Int64 // of an entry in the last slice; 0: none was read yet
	count   atomic.Int64 // of entries in the last slice
}

// minCandidates is how many entries to ask for at least, however large they are.
const minCandidates = 16

// candidates returns how many entries to ask for: twice as many as fit if they are as large as the last ones. If none fitted, or the
// last read failed, it returns one.
func (s *sizes) candidates(limit relay.ReadLimit) int {
	candidates := max(limit.Count, 1)
	switch typical := s.typical.Load(); {
	case typical > int64(limit.Bytes):
		return 1
	case typical > 0:
		candidates = min(candidates, int(max(2*int64(limit.Bytes)/typical, minCandidates)))
	}
	return candidates
}

// expected returns for how many entries to make room.
func (s *sizes) expected(limit relay.ReadLimit) int { return min(int(s.count.Load()), limit.Count) }

// learn remembers the sizes of a read. After a failed read, or an entry that is too large, the next read asks for one entry: more may
// take too long.
func (s *sizes) learn(entries []outbox.Entry, err error) {
	s.count.Store(int64(len(entries)))
	size, unread := 0, false
	for i := range entries {
		size += len(entries[i].Payload)
		unread = unread || entries[i].Payload == nil
	}
	switch {
	case err != nil || unread:
		s.typical.Store(math.MaxInt64)
	case len(entries) > 0:
		s.typical.Store(int64(max(size/len(entries), 1)))
	}
}

// logRow is a row of the outbox; all its columns are NULL where there is none.
type logRow struct {
	position, version                                  sql.NullInt64
	id, aggregateType, aggregateID, eventType, subject sql.NullString // those that are too long are NULL, too
	headers                                            sql.RawBytes
	payload                                            []byte
	recordedAt                                         sql.NullTime
}

func (r *logRow) columns() []any {
	return []any{
		&r.position, &r.id, &r.aggregateType, &r.aggregateID, &r.version, &r.eventType, &r.subject,
		&r.headers, &r.payload, &r.recordedAt,
	}
}

// unread reports whether something of the row was too large, other than the payload.
func (r *logRow) unread() bool {
	return r.headers == nil || !r.aggregateType.Valid || !r.aggregateID.Valid || !r.eventType.Valid || !r.subject.Valid
}

func (r *logRow) entry() outbox.Entry {
	headers, invalid := parseHeaders(r.headers)
	if !r.recordedAt.Valid {
		invalid = invalidTime
	}
	return outbox.Entry{
		Message: outbox.Message{
			ID:      r.id.String,
			Type:    r.eventType.String,
			Subject: r.subject.String,
			Key:     outbox.Key{Type: r.aggregateType.String, ID: r.aggregateID.String},
			Version: r.version.Int64,
			Headers: headers,
			Payload: r.payload,
		},
		Position:   outbox.Position(r.position.Int64),
		RecordedAt: r.recordedAt.Time,
		Invalid:    invalid,
	}
}

// parseHeaders reads an object of strings, or returns why it cannot. A relay that drains a backlog reads the headers of every event here,
// and package json takes three times as long as parsePlainHeaders, which reads nearly all of them.
func parseHeaders(text []byte) (headers map[string]string, invalid string) {
	if len(text) == 0 || string(text) == "{}" {
		return nil, ""
	}
	if headers := parsePlainHeaders(text); headers != nil {
		return headers, ""
	}
	if err := json.Unmarshal(text, &headers); err != nil {
		return nil, invalidHeaders
	}
	return headers, ""
}

// parsePlainHeaders returns nil for anything but {"name": "value", "name": "value"}.
func parsePlainHeaders(text []byte) map[string]string {
	if bytes.IndexByte(text, '\\') >= 0 {
		return nil
	}
	parts := strings.Split(string(text), `"`)
	headers := make(map[string]string, len(parts)/4)
	for before := "{"; ; before = ", " {
		if len(parts) < 5 || parts[0] != before || parts[2] != ": " {
			return nil
		}
		headers[parts[1]] = parts[3]
		if parts = parts[4:]; len(parts) == 1 && parts[0] == "}" {
			return headers
		}
	}
}
