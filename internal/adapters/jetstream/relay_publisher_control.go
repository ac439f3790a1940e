package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// CloudEvents attributes of control messages. Subscribers never get a control message, because its subject is not a subject of events.
const (
	controlSource    = "/outboxie/relay"
	parkedControl    = "outboxie.event.parked.v1"
	confirmedControl = "outboxie.stream.confirmed.v1"
	adoptedControl   = "outboxie.log.adopted.v1"
	maxReason        = 500 // the most bytes of the reason that a control message keeps
)

// PublishControl shortens the reason further if the stream takes only small messages, so that every event can be parked, however large.
func (p *Publisher) PublishControl(ctx context.Context, after uint64, control relay.ControlMessage) (uint64, error) {
	limits, err := p.limits(ctx)
	if err != nil {
		return after, err
	}
	message, size := encodeControl(p.o.Stream, after+1, control, maxReason)
	for kept := maxReason / 2; tooLarge(size, limits) && kept >= utf8.UTFMax; kept /= 2 {
		message, size = encodeControl(p.o.Stream, after+1, control, kept)
	}
	if err := p.storeOne(ctx, after, message); err != nil {
		return after, fmt.Errorf("publish the control message for position %d: %w", control.Position, err)
	}
	return after + 1, nil
}

func tooLarge(size int, limits limits) bool {
	return size+expectHeaders+len(limits.stream) > limits.size
}

// encodeControl returns the NATS message for a control message, and its size on the wire. It keeps kept bytes of the reason. The body is
// for people who look at the stream. The engine reads the headers.
func encodeControl(stream string, sequence uint64, control relay.ControlMessage, kept int) (*nats.Msg, int) {
	kind, id, reason := parkedControl, control.EventID, shortened(control.Parked, kept)
	if control.Parked == "" {
		// Several such messages may have the same position, and the log may have no row there. So the id includes the sequence.
		kind = adoptedControl
		if control.Confirms {
			kind = confirmedControl
		}
		id = strconv.FormatInt(int64(control.Position), 10) + "-" + strconv.FormatUint(sequence, 10)
	}
	var body bytes.Buffer
	readable := json.NewEncoder(&body)
	readable.SetEscapeHTML(false)
	_ = readable.Encode(struct { // encoding text and numbers cannot fail
		Position outbox.Position `json:"position"`
		EventID  string          `json:"event_id,omitempty"`
		Reason   string          `json:"reason,omitempty"`
	}{control.Position, control.EventID, reason})
	h := newHeaders(controlSource)
	h.add(headerSpecVersion, specVersion)
	h.add(headerID, escape(id))
	h.add(headerType, kind)
	h.add(headerSource, controlSource)
	h.add(headerTime, time.Now().UTC().Format(time.RFC3339Nano))
	h.add(headerDataContentType, contentType)
	h.add(headerContentType, contentType)
	h.add(headerProgress, progressText(control.Progress))
	h.add(headerLastOwn, strconv.FormatUint(control.LastOwnSequence, 10))
	if reason != "" {
		h.add(headerParked, escape(reason))
	}
	return &nats.Msg{Subject: controlSubject(stream), Header: h.header, Data: body.Bytes()}, h.size + body.Len()
}

// shortened returns the beginning of text: at most limit bytes, and no part of a character.
func shortened(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
