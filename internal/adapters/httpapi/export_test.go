package httpapi

// CloseListener is what a dying network does to a server.
func (s *Server) CloseListener() error { return s.listener.Close() }
