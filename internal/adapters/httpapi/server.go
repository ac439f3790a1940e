package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Timeouts bounds how long a client or a request may take. A zero stands for the default, which is the last word of each comment.
type Timeouts struct {
	ReadHeader time.Duration // until the request's headers are in; 5s
	Read       time.Duration // until its body is in too; 15s
	Handle     time.Duration // until the service has answered: the request's context ends after this time; 20s
	Write      time.Duration // from the headers to the end of the answer; longer than Read and Handle; 40s
	Idle       time.Duration // between two requests on one connection; 60s
}

func (t Timeouts) orDefault() Timeouts {
	return Timeouts{
		ReadHeader: cmp.Or(t.ReadHeader, 5*time.Second),
		Read:       cmp.Or(t.Read, 15*time.Second),
		Handle:     cmp.Or(t.Handle, 20*time.Second),
		Write:      cmp.Or(t.Write, 40*time.Second),
		Idle:       cmp.Or(t.Idle, 60*time.Second),
	}
}

// Server serves one listener. Call Listen first, then Serve. Shutdown ends the server for good.
type Server struct {
	serverOptions
	engine   *gin.Engine
	http     *http.Server
	listener net.Listener
}

type serverOptions struct {
	name           string
	addr           string
	bound          net.Listener // used instead of addr; nil: none
	maxConnections int          // connections at a time
	console        bool         // the server has the console
	timeouts       Timeouts
	logger         *slog.Logger
}

func newServer(o serverOptions, engine *gin.Engine, compressesItself func(path string) bool) *Server {
	return &Server{serverOptions: o, engine: engine, http: &http.Server{
		Handler:           withValidUTF8(compressed(engine, compressesItself)),
		ReadHeaderTimeout: o.timeouts.ReadHeader,
		ReadTimeout:       o.timeouts.Read,
		WriteTimeout:      o.timeouts.Write,
		IdleTimeout:       o.timeouts.Idle,
		MaxHeaderBytes:    cutOffHeaders,
		ErrorLog:          slog.NewLogLogger(o.logger.Handler(), slog.LevelWarn),
	}}
}

// The names of the servers.
const (
	APIName   = "API"
	AdminName = "admin listener"
)

// Handler returns the handler of the server, for a listener of somebody else's.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Bind listens on addr for a server that may be made later. name is the name of the server in errors. Clients can connect from now on. They
// get answers when the server serves.
func Bind(ctx context.Context, name, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the %s cannot listen on %s: %w", name, addr, err)
	}
	return listener, nil
}

// Listen listens on the address, or uses the listener of the options. Clients can connect from now on. They get answers when Serve runs.
func (s *Server) Listen(ctx context.Context) (err error) {
	listener := s.bound
	if listener == nil {
		if listener, err = Bind(ctx, s.name, s.addr); err != nil {
			return err
		}
	}
	limited := newConnections(listener, s.maxConnections, s.name, s.logger)
	s.http.ConnState = limited.observe
	s.listener = limited
	return nil
}

// Addr returns the address with its real port. Before Listen, it returns the configured address.
func (s *Server) Addr() string {
	if s.listener == nil {
		return s.addr
	}
	return s.listener.Addr().String()
}

// Where returns the attributes for a log line about a server that listens.
func (s *Server) Where() []any {
	attributes := []any{"server", s.name, "addr", s.Addr()}
	if s.console {
		attributes = append(attributes, "console", "http://"+s.Addr()+ConsolePath)
	}
	return attributes
}

// Serve answers requests until Shutdown is called, and then returns nil. If it ends for another reason, it returns an error.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the %s stopped: %w", s.name, err)
	}
	return nil
}

// Shutdown stops listening at once, and waits for the requests in flight. If ctx ends first, it cuts them off and returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.listener != nil {
		defer s.listener.Close() // http.Shutdown has closed it already, unless Serve never ran
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("the %s cut off requests in flight: %w", s.name, err), s.http.Close())
	}
	return nil
}
