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

// Routes are what a server answers.
func (s *Server) Routes() gin.RoutesInfo { return s.http.Handler.(*gin.Engine).Routes() }
