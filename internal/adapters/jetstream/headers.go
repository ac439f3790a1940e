package jetstream

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The headers of a message. They are the CloudEvents 1.0 headers in binary mode, the engine's headers, and the row's own headers as they
// were stored.
const (
	headerSpecVersion = "ce-specversion"
	headerID          = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject" // the aggregate's id
	headerTime        = "ce-time"    // when the event was recorded

	// headerDataContentType and headerContentType have the same value. CloudEvents' binding for NATS (3.1.3.1) names the first one. Older
	// messages have only the second one, and programs that know HTTP's binding read it. headerDataSchema is missing in older messages, too.
	headerDataContentType = "ce-datacontenttype"
	headerContentType     = "content-type"
	headerDataSchema      = "ce-dataschema"

	headerAggregateType    = "Outbox-Aggregate-Type"
	headerAggregateVersion = "Outbox-Aggregate-Version"
	headerPosition         = "Outbox-Position" // the position of this event

	// headerProgress is <position>/<event id>. It is for messages whose progress differs from the position of their event: redriven events
	// and control messages. The id is empty if the log's row is gone.
	headerProgress = "Outbox-Progress"

	headerParked  = "Outbox-Parked" // of a control message: why the event at its progress was parked
	headerLastOwn = "Outbox-Kept"   // of a control message: the sequence of our last message before it

	specVersion = "1.0"
	contentType = "application/json" // of control messages
	roomFor     = 16                 // most messages have no more headers
)

// Sizes on the wire. With them this package decides by itself what the broker would take.
const (
	frameSize      = len("NATS/1.0\r\n") + len("\r\n")
	lineSize       = len(": \r\n")
	maxHeaders     = 1<<16 - 1 // JetStream keeps the length of the headers in 16 bits
	maxSubject     = 2048      // the broker closes a connection that sends a control line above 4096 bytes
	batchHeaders   = 96        // Nats-Batch-Id, -Sequence and -Commit, with their longest values
	expectHeaders  = 2*lineSize + len("Nats-Expected-Last-Sequence") + 20 + len("Nats-Expected-Stream")
	progressHeader = lineSize + len(headerProgress) + 20 + len("/") + 36
	invalidInNames = "\"()/,:;<=>?@[\\]{}"
)

// headers collects the headers of one message. After clear it collects those of the next.
type headers struct {
	source string // the CloudEvents source
	header nats.Header
	values []string // the array that holds all values
	size   int      // on the wire
}

func newHeaders(source string) *headers {
	return &headers{source: source, header: make(nats.Header, roomFor), values: make([]string, 0, roomFor), size: frameSize}
}

func (h *headers) clear() {
	clear(h.header)
	h.values, h.size = h.values[:0], frameSize
}

func (h *headers) add(name, value string) {
	h.values = append(h.values, value)
	h.header[name] = h.values[len(h.values)-1 : len(h.values) : len(h.values)]
	h.size += len(name) + len(value) + lineSize
}

// encode returns the message for entry, and the size of its headers on the wire. The message is valid until h is cleared. at is the
// progress of the log once the message is stored; nil: the progress is that of entry.
func (h *headers) encode(entry outbox.Entry, at *outbox.Progress) (*nats.Msg, int) {
	for name, value := range entry.Headers {
		if !outbox.ReservedHeader(name) {
			h.add(name, value)
		}
	}
	h.add(headerSpecVersion, specVersion)
	h.add(headerID, escape(entry.ID))
	h.add(headerType, escape(entry.Type))
	h.add(headerSource, h.source)
	h.add(headerSubject, escape(entry.Key.ID))
	h.add(headerTime, entry.RecordedAt.UTC().Format(time.RFC3339Nano))
	h.add(headerDataContentType, entry.ContentType())
	h.add(headerContentType, entry.ContentType())
	if schema := entry.Schema(); schema != "" {
		h.add(headerDataSchema, escape(schema))
	}
	h.add(headerAggregateType, escape(entry.Key.Type))
	h.add(headerAggregateVersion, strconv.FormatInt(entry.Version, 10))
	h.add(headerPosition, strconv.FormatInt(int64(entry.Position), 10))
	if at != nil {
		h.add(headerProgress, progressText(*at))
	}
	return &nats.Msg{Subject: entry.Subject, Header: h.header, Data: entry.Payload}, h.size
}

// decode is the reverse of encode. It returns inbox.ErrUnreadable for a message that does not come from the engine.
func decode(subject string, header nats.Header, data []byte) (outbox.Entry, error) {
	var entry outbox.Entry
	position, ok := positionOf(header.Get(headerPosition))
	if !ok {
		return entry, inbox.ErrUnreadable.With("the message on %s has no valid %s", subject, headerPosition)
	}
	version, err := strconv.ParseInt(header.Get(headerAggregateVersion), 10, 64)
	if err != nil || version < 1 {
		return entry, inbox.ErrUnreadable.With("the message on %s has no valid %s", subject, headerAggregateVersion)
	}
	recordedAt, err := time.Parse(time.RFC3339Nano, header.Get(headerTime))
	if err != nil {
		return entry, inbox.ErrUnreadable.With("the message on %s has no valid %s", subject, headerTime)
	}
	entry = outbox.Entry{Position: position, RecordedAt: recordedAt, Message: outbox.Message{
		Subject: subject, Version: version, Payload: data,
	}}
	for _, text := range []struct {
		name string
		into *string
	}{
		{headerID, &entry.ID},
		{headerType, &entry.Type},
		{headerSubject, &entry.Key.ID},
		{headerAggregateType, &entry.Key.Type},
	} {
		if *text.into, err = url.PathUnescape(header.Get(text.name)); err != nil || *text.into == "" {
			return outbox.Entry{}, inbox.ErrUnreadable.With("the message on %s has no valid %s", subject, text.name)
		}
	}
	for name, values := range header {
		if len(values) == 0 || outbox.ReservedHeader(name) {
			continue
		}
		if entry.Headers == nil {
			entry.Headers = make(map[string]string)
		}
		entry.Headers[name] = values[0]
	}
	return entry, nil
}

// metaOf reads what the engine wrote into the headers of a message. The message is a published event, a redriven event or a control
// message. If a part is unreadable, the message does not come from the engine.
func metaOf(header nats.Header) relay.MessageMeta {
	event, isEvent := positionOf(header.Get(headerPosition))
	if _, said := header[headerPosition]; said && !isEvent {
		return relay.MessageMeta{}
	}
	if _, said := header[headerProgress]; !said {
		id, err := url.PathUnescape(header.Get(headerID))
		if !isEvent || err != nil || id == "" {
			return relay.MessageMeta{}
		}
		return relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: event, EventID: id}, Event: event}
	}
	progress, ok := progressOf(header.Get(headerProgress))
	reason, err := url.PathUnescape(header.Get(headerParked))
	switch {
	case !ok || err != nil:
		return relay.MessageMeta{}
	case isEvent:
		return relay.MessageMeta{Own: true, Progress: progress, Event: event, Redriven: true}
	}
	kept, err := strconv.ParseUint(header.Get(headerLastOwn), 10, 64)
	if err != nil {
		kept = math.MaxUint64 // the header is missing or unreadable
	}
	return relay.MessageMeta{
		Own: true, Progress: progress, Parked: reason, LastOwnSequence: kept, Confirms: reason == "" && header.Get(headerType) == confirmedControl,
	}
}

func progressText(progress outbox.Progress) string {
	return strconv.FormatInt(int64(progress.Position), 10) + "/" + escape(progress.EventID)
}

// progressOf is the reverse of progressText.
func progressOf(text string) (outbox.Progress, bool) {
	position, id, ok := strings.Cut(text, "/")
	number, err := strconv.ParseInt(position, 10, 64)
	id, unreadable := url.PathUnescape(id)
	if !ok || err != nil || number < 0 || unreadable != nil {
		return outbox.Progress{}, false
	}
	return outbox.Progress{Position: outbox.Position(number), EventID: id}, true
}

func positionOf(text string) (outbox.Position, bool) {
	position, err := strconv.ParseInt(text, 10, 64)
	return outbox.Position(position), err == nil && position > 0
}

// escape percent-encodes the characters that a CloudEvents header must not have: all except printable ASCII, and also the space, the quote
// and the percent sign.
func escape(value string) string {
	plain := func(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' }
	for i := range len(value) {
		if plain(value[i]) {
			continue
		}
		var escaped strings.Builder
		for i := range len(value) {
			if plain(value[i]) {
				escaped.WriteByte(value[i])
				continue
			}
			const hex = "0123456789ABCDEF"
			escaped.Write([]byte{'%', hex[value[i]>>4], hex[value[i]&15]})
		}
		return escaped.String()
	}
	return value
}

// refusal returns why a broker with these limits can never take the message, or "" if it can. It counts all headers that publishing may
// add, so the result does not depend on how the entry is sent.
func refusal(entry outbox.Entry, headers int, limits limits) string {
	if reason := entry.Unpublishable(); reason != "" {
		return reason
	}
	added := batchHeaders + expectHeaders + len(limits.stream)
	switch size := headers + added + len(entry.Payload); {
	case headers+added > maxHeaders:
		return "its headers take " + strconv.Itoa(headers+added) + " bytes, and JetStream takes at most " + strconv.Itoa(maxHeaders)
	case size > limits.size:
		return "it takes " + strconv.Itoa(size) + " bytes with headers, and the broker takes at most " + strconv.Itoa(limits.size)
	case len(entry.Subject) > maxSubject:
		return "its subject is longer than " + strconv.Itoa(maxSubject) + " bytes"
	case !literal(entry.Subject):
		return "its subject " + strconv.Quote(entry.Subject) + " is not valid: it has an empty token, a wildcard or white space"
	case entry.Subject == controlSubject(limits.stream):
		return "its subject " + entry.Subject + " is reserved for the relay's control messages"
	case !coveredByAny(entry.Subject, limits.subjects):
		return "its subject " + entry.Subject + " is not one of stream " + limits.stream + " (" + strings.Join(limits.subjects, ", ") + ")"
	}
	for name := range entry.Headers {
		if !validName(name) {
			return "its header " + strconv.Quote(name) + " has a name that NATS does not send"
		}
	}
	return ""
}

func validName(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || strings.IndexByte(invalidInNames, name[i]) >= 0 {
			return false
		}
	}
	return name != ""
}
