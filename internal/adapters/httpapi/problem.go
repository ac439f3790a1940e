package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// The errors of HTTP itself.
var (
	errRequest  = fault.New(fault.Invalid, "invalid_request", "the request is wrong in the fields that errors names")
	errBody     = fault.New(fault.Invalid, "malformed_body", "the body is not JSON")
	errTooLong  = fault.New(fault.Invalid, "body_too_large", "the body is larger than 64 KiB")
	errMedia    = fault.New(fault.Invalid, "unsupported_media_type", "the body must be sent as application/json in UTF-8")
	errSlow     = fault.New(fault.Invalid, "request_timeout", "the body did not arrive in time")
	errRoute    = fault.New(fault.NotFound, "route_not_found", "there is nothing at this path")
	errMethod   = fault.New(fault.Invalid, "method_not_allowed", "the path has no such method; Allow names those it has")
	errTimeout  = fault.New(fault.Unavailable, "timeout", "the answer took too long; whether the change was made is not known")
	errHeaders  = fault.New(fault.Invalid, "headers_too_large", "the request's headers are larger than 16 KiB")
	errToken    = fault.New(fault.Invalid, "unauthorized", "the admin listener needs its token: Authorization: Bearer ADMIN_TOKEN")
	errHost     = fault.New(fault.Invalid, "host_not_allowed", "the request is for a host that this listener does not know")
	errOrigin   = fault.New(fault.Invalid, "cross_origin", "a page of another origin may not do this")
	errOverload = fault.New(fault.Unavailable, "overloaded", "too many connections or long bodies at a time; nothing was done")
	errDown     = fault.New(fault.Unavailable, "unavailable", "a server that this request needs cannot be reached at the moment")
	errBug      = fault.New(fault.Internal, "internal", "something went wrong on our side; the trace id helps to find out what")
)

// statusOf and statusOfCode give the status of every fault. If statusOfCode has the fault's code, the code decides. Otherwise the fault's
// kind decides. The contract lists all codes. The errors about tokens of operators have the codes of those about tokens of clients.
var (
	statusOf = map[fault.Kind]int{
		fault.Invalid:     http.StatusBadRequest,
		fault.NotFound:    http.StatusNotFound,
		fault.Conflict:    http.StatusConflict,
		fault.Refused:     http.StatusUnprocessableEntity,
		fault.Unavailable: http.StatusServiceUnavailable,
		fault.Internal:    http.StatusInternalServerError,
	}
	statusOfCode = map[string]int{
		errTooLong.Code: http.StatusRequestEntityTooLarge,
		errMedia.Code:   http.StatusUnsupportedMediaType,
		errSlow.Code:    http.StatusRequestTimeout,
		errMethod.Code:  http.StatusMethodNotAllowed,
		errHeaders.Code: http.StatusRequestHeaderFieldsTooLarge,
		errToken.Code:   http.StatusUnauthorized,
		errHost.Code:    http.StatusMisdirectedRequest,
		errOrigin.Code:  http.StatusForbidden,
		errRate.Code:    http.StatusTooManyRequests,

		orders.ErrToken.Code:     http.StatusUnauthorized,
		order.ErrPermission.Code: http.StatusForbidden,

		orders.ErrOrderVersion.Code: http.StatusPreconditionFailed,
	}
)

// statusClientGone is the status in logs and spans if the client went away. nginx uses 499 too.
const statusClientGone = 499

// refuse answers with err as a problem, and ends the request. c.Errors keeps an error of the server, for the log and the span. The client
// gets only the code and the detail; for a bug the detail is the same for all bugs. If the client went away and the work was cancelled for
// that reason, err is not an error of the server.
func refuse(c *gin.Context, err error) {
	c.Abort()
	if c.Writer.Written() {
		return // the answer has begun, and its rest could not be written
	}
	f := classify(err)
	status, special := statusOfCode[f.Code]
	if !special {
		status = statusOf[f.Kind]
	}
	if status >= http.StatusInternalServerError {
		if errors.Is(c.Request.Context().Err(), context.Canceled) {
			c.Status(statusClientGone)
			return
		}
		_ = c.Error(err)
	}
	if text := challenge(f); text != "" && c.Writer.Header().Get("WWW-Authenticate") == "" {
		c.Header("WWW-Authenticate", text)
	}
	if f.Kind == fault.Unavailable {
		c.Header("Retry-After", "1")
	}
	body, err := json.Marshal(problem(f, fieldErrorsOf(err), status, traceID(c)))
	if err != nil {
		panic(err) // a Problem always marshals
	}
	c.Data(status, "application/problem+json", body)
}

// classify returns the fault in err's chain. All bugs look the same to clients. A fault whose code the contract does not list is a bug.
func classify(err error) *fault.Error {
	var f *fault.Error
	switch {
	case errors.As(err, &f) && f.Kind != fault.Internal && ProblemCode(f.Code).Valid():
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case fault.KindOf(err) == fault.Unavailable:
		return errDown
	}
	return errBug
}

// fieldErrorsOf returns the fields that err names. A field in an error of the service is a member of the body.
func fieldErrorsOf(err error) []FieldError {
	var located *invalidRequest
	if errors.As(err, &located) {
		return located.fields
	}
	var f *fault.Error
	var wrong []FieldError
	if errors.As(err, &f) {
		for _, field := range f.Fields {
			wrong = append(wrong, inBody(field.Name, field.Reason))
		}
	}
	return wrong
}

func problem(f *fault.Error, wrong []FieldError, status int, traceID string) Problem {
	p := Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: f.Detail, Code: ProblemCode(f.Code),
		TraceID: optional(traceID),
	}
	if len(wrong) > 0 {
		p.Errors = &wrong
	}
	return p
}
