package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// CloseListener is what a dying network does to a server.
func (s *Server) CloseListener() error { return s.listener.Close() }

// Handler answers requests without a connection.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// The cursor, and its reverse.
var (
	CursorOf   = cursorOf
	ReadCursor = readCursor
)

// Idle returns how many connections are idle.
func (s *Server) Idle() int {
	l := s.listener.(*connections)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.idle)
}

// Routes are what a server answers.
func (s *Server) Routes() gin.RoutesInfo { return s.engine.Routes() }
