package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

const longestBody = 1 << 20 // bytes

// readBody lets a request through whose body is absent, or is one well-formed JSON text of at most 1 MiB sent as
// application/json. It reads the whole body, so that handlers never wait for the client.
func readBody(c *gin.Context) {
	if c.Request.ContentLength > longestBody {
		refuse(c, errTooLong)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, longestBody))
	if err == nil {
		err = judgeBody(c.Request.Header, body)
	}
	var tooLong *http.MaxBytesError
	var judged *fault.Error
	switch {
	case err == nil:
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
	case errors.As(err, &judged):
		refuse(c, judged)
	case errors.As(err, &tooLong):
		refuse(c, errTooLong)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.Header("Connection", "close")
		refuse(c, errSlow)
	default:
		c.Header("Connection", "close")
		refuse(c, errBody.With("the body could not be read to its end"))
	}
}

func judgeBody(header http.Header, body []byte) error {
	if len(bytes.Trim(body, " \t\r\n")) == 0 { // what is blank for JSON
		return nil
	}
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || media != "application/json" || (given && !strings.EqualFold(charset, "utf-8")) {
		return errMedia
	}
	if header.Get("Content-Encoding") != "" {
		return errMedia.With("the body must be sent without a content encoding")
	}
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		return errBody.With("the body is not JSON: %s", err)
	}
	return nil
}

// refuseBody answers what the generated code says of a body that readBody let through.
func refuseBody(c *gin.Context, err error) {
	if errors.Is(err, io.EOF) {
		err = errBody.With("a body is required: a JSON object")
	}
	refuse(c, err)
}

// object is a JSON object as it was sent: its members' texts untouched, so that an amount never passes through floating
// point. Reading it collects everything that is wrong with it.
type object struct {
	findings
	members map[string]json.RawMessage
	names   []string // of members, in the order they were sent
}

// UnmarshalJSON reads an object. A member that is given twice is wrong.
func (o *object) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return errBody.With("the body must be a JSON object, not %s", kindOf(text))
	}
	*o = object{members: map[string]json.RawMessage{}}
	for decoder.More() {
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
			o.blame(name, "is given more than once")
			continue
		}
		o.members[name] = value
		o.names = append(o.names, name)
	}
	return nil
}

// only blames every member that is none of known.
func (o *object) only(known ...string) {
	for _, name := range o.names {
		if !slices.Contains(known, name) {
			o.blame(name, "is not known; known are "+strings.Join(known, ", "))
		}
	}
}

// text is a member that must be a string. Unless ok, it is absent or to blame.
func (o *object) text(name string) (text string, ok bool) {
	value, given := o.members[name]
	if !given {
		return "", false
	}
	if kindOf(value) != "a string" || json.Unmarshal(value, &text) != nil {
		o.blame(name, "must be a string, not "+kindOf(value))
		return "", false
	}
	return text, true
}

// number is a member that must be a number, or a string which holds one: its exact text.
func (o *object) number(name string) (text string, ok bool) {
	value, given := o.members[name]
	switch kind := kindOf(value); {
	case !given:
		return "", false
	case kind == "a number":
		return string(value), true
	case kind == "a string":
		return o.text(name)
	default:
		o.blame(name, "must be a number or a string, not "+kind)
		return "", false
	}
}

// require blames every name that is not given.
func (o *object) require(names ...string) {
	for _, name := range names {
		if _, given := o.members[name]; !given {
			o.blame(name, "is required")
		}
	}
}

// kindOf names what a well-formed JSON text is.
func kindOf(text []byte) string {
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
