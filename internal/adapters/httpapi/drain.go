package httpapi

import (
	"sync/atomic"

	"github.com/gin-gonic/gin"
)

// shutdownCheck is the name of the check of readiness that fails while a process drains.
const shutdownCheck = "shutdown"

// Drain tells the servers of a process that the process will stop soon. It lets load balancers send requests elsewhere before the listeners
// close. After Begin, the API still answers every request, but closes the connection after the answer, and /readyz of the admin listener
// answers 503. One Drain is shared by the servers of a process. All methods are safe for concurrent use. A nil Drain never begins.
type Drain struct{ begun atomic.Bool }

// Begin starts the draining. It cannot be undone.
func (d *Drain) Begin() { d.begun.Store(true) }

// Draining reports whether Begin was called.
func (d *Drain) Draining() bool { return d != nil && d.begun.Load() }

// closeConnections makes the answers of a process that drains close their connections. The header is set when the answer begins, so a
// request that was in work at Begin closes its connection too.
func (d *Drain) closeConnections(c *gin.Context) {
	if d != nil {
		c.Writer = &drainingWriter{ResponseWriter: c.Writer, drain: d}
	}
}

// drainingWriter adds Connection: close to an answer that begins while the process drains.
type drainingWriter struct {
	gin.ResponseWriter
	drain *Drain
}

func (w *drainingWriter) mark() {
	if !w.Written() && w.drain.Draining() {
		w.Header().Set("Connection", "close")
	}
}

func (w *drainingWriter) WriteHeader(status int) {
	w.mark()
	w.ResponseWriter.WriteHeader(status)
}

func (w *drainingWriter) Write(data []byte) (int, error) {
	w.mark()
	return w.ResponseWriter.Write(data)
}
