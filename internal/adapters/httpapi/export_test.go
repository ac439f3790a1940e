package httpapi

import (
	"github.com/gin-gonic/gin"
)

// CloseListener closes the listener of a server, as if the network failed.
func (s *Server) CloseListener() error { return s.listener.Close() }

// The encoding and the decoding of a cursor.
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

// Routes returns the routes of a server.
func (s *Server) Routes() gin.RoutesInfo { return s.engine.Routes() }
