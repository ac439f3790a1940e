package jetstream

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Headers that a server adds to a message in the answer to a direct get. They come after the headers that were stored.
const (
	headerStream       = "Nats-Stream"
	headerMessageOn    = "Nats-Subject"
	headerSequence     = "Nats-Sequence"
	headerStored       = "Nats-Time-Stamp"
	headerPending      = "Nats-Num-Pending"
	headerLastSequence = "Nats-Last-Sequence"
	headerStatus       = "Status"
)

const (
	// maxDoubtful is how many doubtful messages one read asks the stream's leader about. The read ends before the next doubtful message.
	maxDoubtful = 16
	// deniedCheckAfter is how long a reader waits for the first answer before it checks whether the broker has denied the request.
	deniedCheckAfter = 250 * time.Millisecond
)

// directReader reads a stream by direct gets. Any server with a replica of the stream may answer. A replica that lags shows a prefix of the
// stream.
//
// A client that may publish to the stream can store any bytes as headers, also bytes that look like a server's own headers. So
// directReader trusts a header only if the header is shown to come from the server:
//   - A server adds its headers at the end. If a name has several values, the last one is the server's.
//   - The client stops reading headers at the first empty line. So an empty line in the middle hides the headers after it. But the client
//     also says how many bytes came. If the unread bytes are too few for a server's headers, nothing is hidden.
//   - Each message names the message before it, and the end of the answer names the last one. So no message in between is missing.
//
// If this cannot be shown, the message is doubtful. Then the stream's leader returns it in JSON, where nothing can be hidden.
type directReader struct {
	nc     *nats.Conn
	stream string
	hidden int // the least number of bytes that a server's headers take
}

func newDirectReader(nc *nats.Conn, stream string) directReader {
	least := fmt.Sprintf("%s: %s\r\n%s: .\r\n%s: 1\r\n%s: %s\r\n%s: 0\r\n%s: 0\r\n", headerStream, stream, headerMessageOn, headerSequence,
		headerStored, time.Time{}.Format(time.RFC3339), headerPending, headerLastSequence)
	return directReader{nc: nc, stream: stream, hidden: len(least)}
}

// getRequest is the request of a direct get.
type getRequest struct {
	Sequence uint64 `json:"seq"`
	Count    int    `json:"batch,omitempty"`
	Bytes    int    `json:"max_bytes,omitempty"`
	Filter   string `json:"next_by_subj,omitempty"`
}

// stored is a message of the stream.
type stored struct {
	inbox.StreamPosition
	subject string
	header  nats.Header
	added   bool // header also has the server's headers
	data    []byte
}

// errNoDirect reports that no server answers direct gets of the stream.
var errNoDirect = errors.New("no server answers direct gets")

// read returns the messages from a sequence on, and how many more the server has. The last message may exceed the limit of bytes.
func (d directReader) read(ctx context.Context, request getRequest) (messages []stored, pending uint64, err error) {
	answers, err := d.ask("DIRECT.GET."+d.stream, request, request.Count+1)
	if err != nil {
		return nil, 0, classify(ctx, err)
	}
	defer answers.end()
	from, previous, doubtful := request.Sequence, uint64(0), 0
	for {
		answer, err := answers.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		message, last, known := d.judge(answer.Header, answer.Size()-len(answer.Subject)-len(answer.Reply)-len(answer.Data))
		message.data = answer.Data
		switch {
		case !known && doubtful == maxDoubtful:
			return messages, 0, nil
		case !known:
			doubtful++
			if message, err = d.askLeader(ctx, max(from, previous+1), cmp.Or(request.Filter, ">")); err != nil {
				return nil, 0, err
			}
		case message.Sequence == 0:
			return d.end(answer, messages, previous)
		case last != previous || message.Sequence < max(from, previous+1):
			return nil, 0, d.lost(previous, message.Sequence)
		}
		messages, previous = append(messages, message), message.Sequence
	}
}

// end checks the status that ends an answer.
func (d directReader) end(status *nats.Msg, messages []stored, previous uint64) ([]stored, uint64, error) {
	switch code := status.Header.Get(headerStatus); {
	case code == "204":
		last, err := strconv.ParseUint(status.Header.Get(headerLastSequence), 10, 64)
		pending, unreadable := strconv.ParseUint(status.Header.Get(headerPending), 10, 64)
		if err != nil || unreadable != nil || last != previous {
			return nil, 0, d.lost(previous, last)
		}
		return messages, pending, nil
	case code == "404" && len(messages) == 0:
		return nil, 0, nil
	case code == "503" && len(messages) == 0:
		return nil, 0, ErrUnavailable.Wrap(errNoDirect)
	default:
		return nil, 0, ErrUnavailable.With("the read of stream %s ended early: %s %s", d.stream, code, status.Header.Get("Description"))
	}
}

func (d directReader) lost(previous, next uint64) error {
	return ErrUnavailable.With("messages of stream %s between the sequences %d and %d were lost on the way: read again", d.stream, previous, next)
}

// judge checks the headers of an answer. size is the number of bytes that the headers took. It returns the message, and the sequence of the
// message before it in the answer. A message with sequence 0 is a status. known is false for a doubtful message.
func (d directReader) judge(header nats.Header, size int) (message stored, previous uint64, known bool) {
	// The client turns a status in the first line into two headers, which are longer than that line by at most statusLine bytes.
	const statusLine = len(headerStatus) + len("Description") + len(":\n:\n")
	left := size - len("NATS/1.0\n")
	for name, values := range header {
		for _, value := range values {
			left -= len(name) + len(":") + len(value) + len("\n")
		}
	}
	if left+statusLine >= d.hidden {
		return stored{}, 0, false
	}
	sequences := header[headerSequence]
	if len(sequences) == 0 {
		return stored{}, 0, len(header[headerStatus]) > 0
	}
	sequence, err := strconv.ParseUint(sequences[len(sequences)-1], 10, 64)
	at, undated := time.Parse(time.RFC3339Nano, added(header, headerStored))
	previous, unlinked := strconv.ParseUint(added(header, headerLastSequence), 10, 64)
	subject := added(header, headerMessageOn)
	if err != nil || undated != nil || unlinked != nil || sequence == 0 || subject == "" || added(header, headerStream) != d.stream {
		return stored{}, 0, false // for example, the first of the server's headers was read as the end of a stored header
	}
	return stored{StreamPosition: inbox.StreamPosition{Sequence: sequence, StoredAt: at}, subject: subject, header: header, added: true}, previous, true
}

// added returns the value of a header that the server added.
func added(header nats.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// original returns the headers that were stored.
func (s stored) original() nats.Header {
	if !s.added {
		return s.header
	}
	header := make(nats.Header, len(s.header))
	for name, values := range s.header {
		switch name {
		case headerStream, headerMessageOn, headerSequence, headerStored, headerPending, headerLastSequence:
			values = values[:len(values)-1]
		}
		if len(values) > 0 {
			header[name] = values
		}
	}
	return header
}

// askLeader asks the stream's leader for the first message at a sequence or after it.
func (d directReader) askLeader(ctx context.Context, from uint64, filter string) (stored, error) {
	var answer struct {
		Message *struct {
			Sequence uint64    `json:"seq"`
			Subject  string    `json:"subject"`
			Header   string    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := d.call(ctx, "STREAM.MSG.GET."+d.stream, getRequest{Sequence: from, Filter: filter}, &answer); err != nil {
		return stored{}, err
	}
	if answer.Message == nil {
		return stored{}, ErrUnavailable.With("the leader of stream %s returned no message after sequence %d", d.stream, from)
	}
	raw, err := base64.StdEncoding.DecodeString(answer.Message.Header)
	if err != nil {
		return stored{}, fmt.Errorf("read message %d of stream %s: %w", answer.Message.Sequence, d.stream, err)
	}
	header, _ := nats.DecodeHeadersMsg(raw) // missing or unreadable headers count as none
	return stored{
		StreamPosition: inbox.StreamPosition{Sequence: answer.Message.Sequence, StoredAt: answer.Message.Time},
		subject:        answer.Message.Subject, header: header, data: answer.Message.Data,
	}, nil
}

// call sends a request to JetStream, and decodes the answer into a pointer.
func (d directReader) call(ctx context.Context, api string, request, into any) error {
	answers, err := d.ask(api, request, 1)
	if err != nil {
		return classify(ctx, err)
	}
	defer answers.end()
	answer, err := answers.next(ctx)
	if err != nil {
		return err
	}
	if answer.Header.Get(headerStatus) == "503" && len(answer.Data) == 0 {
		return ErrUnavailable.With("no server answers to %s", api)
	}
	var failure struct {
		Error *jetstream.APIError `json:"error"`
	}
	err = json.Unmarshal(answer.Data, &failure)
	if err == nil && failure.Error != nil {
		return classify(ctx, failure.Error)
	}
	if err == nil {
		err = json.Unmarshal(answer.Data, into)
	}
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", api, err)
	}
	return nil
}

// answers are the answers of a server to one request. They come on a subject that only this request has.
type answers struct {
	directReader
	api          string
	subscription *nats.Subscription
	received     chan *nats.Msg
	heard        bool
}

// ask sends a request. most is the largest number of answers that can come. If request is nil, the message has no body.
func (d directReader) ask(api string, request any, most int) (*answers, error) {
	var body []byte
	var err error
	if request != nil {
		if body, err = json.Marshal(request); err != nil {
			return nil, err
		}
	}
	a := &answers{directReader: d, api: api, received: make(chan *nats.Msg, most)}
	if a.subscription, err = d.nc.ChanSubscribe(d.nc.NewInbox(), a.received); err != nil {
		return nil, err
	}
	if err := d.nc.PublishRequest("$JS.API."+api, a.subscription.Subject, body); err != nil {
		a.end()
		return nil, err
	}
	return a, nil
}

// next waits for an answer. If the broker denies the request, no answer comes. Then the connection has the denial as its last error.
func (a *answers) next(ctx context.Context) (*nats.Msg, error) {
	var early <-chan time.Time
	if !a.heard {
		timer := time.NewTimer(deniedCheckAfter)
		defer timer.Stop()
		early = timer.C
	}
	for {
		select {
		case answer := <-a.received:
			a.heard = true
			return answer, nil
		case <-ctx.Done():
			return nil, classify(ctx, ctx.Err())
		case <-early:
			if err := a.denied(); err != nil {
				return nil, err
			}
		}
	}
}

func (a *answers) denied() error {
	last := a.nc.LastError()
	switch {
	case !errors.Is(last, nats.ErrPermissionViolation):
		return nil
	case strings.Contains(last.Error(), a.api): // only the api, because an account may map the prefix before it to another one
		return inbox.ErrStreamUnreadable.With("the NATS user may not publish to $JS.API.%s: allow it, as docker/nats-permissions.conf does", a.api).
			Wrap(nats.ErrPermissionViolation)
	case strings.Contains(last.Error(), a.subscription.Subject):
		return inbox.ErrStreamUnreadable.With("the NATS user may not subscribe to the subjects of its answers, for example %s: allow it, or set "+
			"NATS_INBOX_PREFIX to what the user may subscribe to", a.subscription.Subject).Wrap(nats.ErrPermissionViolation)
	}
	return nil
}

func (a *answers) end() { _ = a.subscription.Unsubscribe() } // fails only if the connection was closed
