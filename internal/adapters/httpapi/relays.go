package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// relaysRoute returns the handler that lists the relays of the process.
func relaysRoute(list func() []RelayState) func(c *gin.Context) error {
	return func(c *gin.Context) error {
		shown := Relays{Relays: []RelayState{}}
		if list != nil {
			shown.Relays = append(shown.Relays, list()...)
		}
		return answer(c, http.StatusOK, shown)
	}
}
