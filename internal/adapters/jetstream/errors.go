package jetstream

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrUnavailable reports that the broker cannot be reached, has no leader, is full, or did not answer in time. Nobody knows whether the
// request took effect.
var ErrUnavailable = fault.New(fault.Unavailable, "broker_unavailable", "the broker cannot do this at the moment")

var (
	errDisconnected = ErrUnavailable.With("the connection to the broker was lost")
	errNoAnswer     = ErrUnavailable.With("the broker did not answer in time")
)

// Codes in JetStream's answers that this package needs and that the client does not name.
const (
	codeHeaderTooLarge   jetstream.ErrorCode = 10097
	codeStreamMismatch   jetstream.ErrorCode = 10060 // the subject belongs to another stream
	codeSealed           jetstream.ErrorCode = 10109
	codeAtomicDisabled   jetstream.ErrorCode = 10174 // somebody changed the stream; Open repairs it
	codeBatchIncomplete  jetstream.ErrorCode = 10176
	codeTooManyInFlight  jetstream.ErrorCode = 10210 // the broker forgets an abandoned batch only after 10 s
	codeBatchHasKnownIDs jetstream.ErrorCode = 10201
)

// errorCode returns the code of JetStream's answer. It returns 0 if err is not an answer.
func errorCode(err error) jetstream.ErrorCode {
	var answer jetstream.JetStreamError
	if errors.As(err, &answer) && answer.APIError() != nil {
		return answer.APIError().ErrorCode
	}
	return 0
}

// classify turns an error of the client into a fault. A fault stays as it is. A transient error becomes ErrUnavailable. Any other error
// stays unclassified. If the caller's context has ended, errors.Is finds the error of that context. If a context of whileConnected has
// ended, classify returns its cause: errNoAnswer or errDisconnected.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		if errors.As(cause, &known) {
			return cause
		}
		return ErrUnavailable.Wrap(errors.Join(ctx.Err(), err))
	}
	if transient(err) {
		return ErrUnavailable.Wrap(err)
	}
	return err
}

func transient(err error) bool {
	var answer jetstream.JetStreamError
	if errors.As(err, &answer) && answer.APIError() != nil {
		switch answer.APIError().ErrorCode {
		case codeStreamMismatch, codeSealed, codeAtomicDisabled, codeBatchIncomplete, codeTooManyInFlight:
			return true
		}
		return answer.APIError().Code >= 500
	}
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF,
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrNoServers, nats.ErrReconnectBufExceeded, nats.ErrDisconnected,
		nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrStaleConnection,
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrPermissionViolation,
		jetstream.ErrNoStreamResponse, jetstream.ErrConnectionClosed,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}

// whileConnected returns a context that ends in three cases: when ctx ends, with errNoAnswer after a timeout (0: never), and with
// errDisconnected as soon as the connection is lost. An answer that was under way then never arrives.
func whileConnected(ctx context.Context, nc *nats.Conn, timeout time.Duration) (context.Context, func()) {
	status := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	ctx, cancel := context.WithCancelCause(ctx)
	stopTimer := func() {}
	if timeout > 0 {
		ctx, stopTimer = context.WithTimeoutCause(ctx, timeout, errNoAnswer)
	}
	if !nc.IsConnected() { // checked after StatusChanged, so that no change is missed
		cancel(errDisconnected)
	}
	watched := ctx
	go func() {
		select {
		case _, lost := <-status:
			if lost {
				cancel(errDisconnected)
			}
		case <-watched.Done():
		}
	}()
	return ctx, func() {
		stopTimer()
		cancel(nil)
		nc.RemoveStatusListener(status)
	}
}
