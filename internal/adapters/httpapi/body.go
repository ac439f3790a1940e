package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

const (
	// maxBody is in bytes: ten times the longest body that the contract allows.
	maxBody = 64 << 10
	// shortBody is the size of the largest body that does not count as long. The body of every order, payment and shipment is shorter, in any
	// notation.
	shortBody = 8 << 10
	// maxLongBodies is how many requests with a long body may be in work at a time, from the arrival of the body to the answer.
	maxLongBodies = 32
)

// bodies reads the bodies of one server's requests.
type bodies struct {
	long    chan struct{} // holds a token for each long body
	refused *rateLimitedLog
}

func newBodies(logger *slog.Logger) *bodies {
	return &bodies{long: make(chan struct{}, maxLongBodies), refused: &rateLimitedLog{logger: logger.With("most", maxLongBodies)}}
}

// read lets a request through if its body is absent, or if the body is one well-formed JSON text of at most 64 KiB, sent as
// application/json. It reads the whole body, so handlers never wait for the client. If too many long bodies are in work, it answers with
// errOverload.
//
// If the headers alone are wrong, read does not read the body. A client that waits for 100 Continue then does not send it.
func (b *bodies) read(c *gin.Context) {
	if !routed(c) {
		return
	}
	if c.Request.ContentLength > 0 {
		if err := checkBodyHeaders(c.Request.Header); err != nil {
			refuse(c, err)
			return
		}
	}
	if c.Request.ContentLength > maxBody {
		refuseAndClose(c, errTooLong)
		return
	}
	from := http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
	var body []byte
	var err error
	long := c.Request.ContentLength > shortBody
	if !long {
		body, err = io.ReadAll(io.LimitReader(from, shortBody+1))
		long = err == nil && len(body) > shortBody
	}
	if long {
		select {
		case b.long <- struct{}{}:
			defer func() { <-b.long }()
		default:
			b.refused.warn("refused bodies over 8 KiB: too many of them are being read, or wait for their answer")
			refuseAndClose(c, errOverload)
			return
		}
		var rest []byte
		rest, err = io.ReadAll(from)
		body = append(body, rest...)
	}
	if err != nil {
		refuseAndClose(c, readError(err))
		return
	}
	if err := checkBody(c.Request.Header, body); err != nil {
		refuse(c, err)
		return
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(body))
	c.Next()
}

// readError returns the problem of a body that could not be read.
func readError(err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return errTooLong
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return errBody.With("the body could not be read to its end")
}

// refuseAndClose refuses a request whose body was not read, and closes the connection, so that the server does not wait for the rest.
func refuseAndClose(c *gin.Context, err error) {
	c.Header("Connection", "close")
	refuse(c, err)
}

// checkBody checks the headers and the JSON of a body.
func checkBody(header http.Header, body []byte) error {
	if len(bytes.Trim(body, " \t\r\n")) == 0 { // the white space of JSON
		return nil
	}
	if err := checkBodyHeaders(header); err != nil {
		return err
	}
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		return errBody.With("the body is not JSON: %s", err)
	}
	return checkText(body)
}

func checkBodyHeaders(header http.Header) error {
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || media != "application/json" || (given && !strings.EqualFold(charset, "utf-8")) {
		return errMedia
	}
	if header.Get("Content-Encoding") != "" {
		return errMedia.With("the body must be sent without a content encoding")
	}
	return nil
}

// readObject reads the JSON object in the body of a request that bodies.read let through.
func readObject(c *gin.Context) (*object, error) {
	in := new(object)
	err := c.ShouldBindJSON(in)
	if errors.Is(err, io.EOF) {
		return nil, errBody.With("a body is required: a JSON object")
	}
	return in, err
}

// readOptionalObject is like readObject, but a missing body is an empty object.
func readOptionalObject(c *gin.Context) (*object, error) {
	in := new(object)
	if err := c.ShouldBindJSON(in); !errors.Is(err, io.EOF) {
		return in, err
	}
	return new(object), nil
}

// object is a JSON object whose members keep the text in which they were sent, so that an amount never passes through floating point. Its
// methods collect everything that is wrong with it.
type object struct {
	fieldErrors
	members map[string]json.RawMessage
	names   []string // the keys of members, in the order of the text
}

// maxMembers is the number of members after which UnmarshalJSON stops. A valid object has at most 10 members, and each further member is an
// error. So the members that were read have at least maxFieldErrors errors, which is as many as an answer names.
const maxMembers = 10 + maxFieldErrors

// UnmarshalJSON reads an object. A member that is given twice is an error. If an object has too many members, UnmarshalJSON skips the last
// members: the first ones already have as many errors as an answer names.
func (o *object) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return errBody.With("the body must be a JSON object, not %s", jsonType(text))
	}
	*o = object{members: map[string]json.RawMessage{}}
	for decoder.More() && len(o.names) <= maxMembers && !o.full() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if _, twice := o.members[name]; twice {
			o.addField(name, "is given more than once")
			continue
		}
		o.members[name] = value
		o.names = append(o.names, name)
	}
	return nil
}

// allowOnly adds an error for every member that is not known.
func (o *object) allowOnly(known ...string) {
	for _, name := range o.names {
		if o.full() {
			return
		}
		if !slices.Contains(known, name) {
			o.addField(name, "is not known; known are "+strings.Join(known, ", "))
		}
	}
}

// text returns a member that must be a string. ok is false if the member is absent or not a string. An absent member is
// not an error.
func (o *object) text(name string) (text string, ok bool) {
	value, given := o.members[name]
	if !given {
		return "", false
	}
	if jsonType(value) != "a string" || json.Unmarshal(value, &text) != nil {
		o.addField(name, "must be a string, not "+jsonType(value))
		return "", false
	}
	return text, true
}

// number returns the exact text of a member that must be a number or a string. It does not check whether a string is a number.
func (o *object) number(name string) (text string, ok bool) {
	value, given := o.members[name]
	switch kind := jsonType(value); {
	case !given:
		return "", false
	case kind == "a number":
		return string(value), true
	case kind == "a string":
		return o.text(name)
	default:
		o.addField(name, "must be a number or a string, not "+kind)
		return "", false
	}
}

// require adds an error for every name that is not given.
func (o *object) require(names ...string) {
	for _, name := range names {
		if _, given := o.members[name]; !given {
			o.addField(name, "is required")
		}
	}
}

// jsonType names the type of a well-formed JSON text.
func jsonType(text []byte) string {
	if len(text) == 0 {
		return "nothing"
	}
	switch text[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
