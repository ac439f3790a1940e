package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	defaultMaxConnections = 512
	maxAdminConnections   = 64

	// maxRefusing is how many connections at a time get the answer 503. Further ones are closed without an answer.
	maxRefusing      = 32
	refusalTimeout   = time.Second
	maxDrained       = maxHeaders + maxBody
	overloadedAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n" +
		"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)

// connections is a listener with a maximum of open connections. At the maximum, a new connection replaces the connection that has been idle
// the longest. If no connection is idle, the new one gets the answer 503 at once, so its client can try another instance.
type connections struct {
	net.Listener
	max      int
	refused  *rateLimitedLog
	refusing chan struct{} // holds a token for each connection that is being refused

	mu   sync.Mutex
	open int
	idle []net.Conn // the connection that has been idle the longest is first
}

func newConnections(listener net.Listener, most int, name string, logger *slog.Logger) *connections {
	return &connections{
		Listener: listener, max: most, refusing: make(chan struct{}, maxRefusing),
		refused: &rateLimitedLog{logger: logger.With("server", name, "most", most)},
	}
}

// Accept returns the next connection that is admitted.
func (l *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := accepted.(*net.TCPConn)
		if l.admit() {
			return &connection{TCPConn: conn, of: l}, nil
		}
		l.refuse(conn)
	}
}

func (l *connections) admit() bool {
	l.mu.Lock()
	full := l.open >= l.max
	var given net.Conn
	if full && len(l.idle) > 0 {
		given, l.idle = l.idle[0], l.idle[1:]
	}
	if !full || given != nil {
		l.open++
	}
	l.mu.Unlock()
	if given != nil {
		_ = given.Close() // Close lowers l.open by one, after the new connection has raised it by one
	}
	return !full || given != nil
}

// observe updates the list of idle connections. An http.Server calls it as its ConnState.
func (l *connections) observe(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.idle, conn); at >= 0 {
		l.idle = slices.Delete(l.idle, at, at+1)
	}
	if state == http.StateIdle {
		l.idle = append(l.idle, conn)
	}
}

func (l *connections) refuse(conn *net.TCPConn) {
	l.refused.warn("refused connections: as many as HTTP_MAX_CONNECTIONS allows are open, and none of them is idle")
	select {
	case l.refusing <- struct{}{}:
		go func() {
			defer func() { <-l.refusing }()
			answerOverload(conn)
		}()
	default:
		_ = conn.Close()
	}
}

// answerOverload answers any request with 503. It reads the bytes that the client sends: a connection that is closed with unread bytes is
// reset, and then the client may never see the answer.
func answerOverload(conn *net.TCPConn) {
	defer conn.Close()
	const status = http.StatusServiceUnavailable
	body, _ := json.Marshal(problem(errOverload, nil, status, "")) // a Problem always marshals
	_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
	if _, err := fmt.Fprintf(conn, overloadedAnswer, len(body), body); err == nil && conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxDrained)
	}
}

// connection is an open connection that a listener has admitted. Close lowers the number of open connections of that listener once.
type connection struct {
	*net.TCPConn
	of   *connections
	once sync.Once
}

func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		c.of.open--
	})
	return c.TCPConn.Close()
}

// rateLimitedLog logs an event that may happen thousands of times a second. It logs at most one line in ten seconds, with the number of
// events.
type rateLimitedLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	times  int
	logged time.Time
}

func (o *rateLimitedLog) warn(message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.times++
	if now := time.Now(); now.Sub(o.logged) >= 10*time.Second {
		o.logger.Warn(message, "times", o.times)
		o.times, o.logged = 0, now
	}
}
