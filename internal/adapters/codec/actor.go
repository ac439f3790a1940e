package codec

import (
	"net/url"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// actorHeaders returns the headers of CloudEvents' auth context. There are none if nobody checks who sends requests.
func actorHeaders(who order.Principal) map[string]string {
	if who.Kind == "" || who.Kind == order.KindAnyone {
		return nil
	}
	headers := map[string]string{outbox.HeaderActorType: string(who.Kind)}
	if who.ID != "" {
		headers[outbox.HeaderActorID] = url.PathEscape(who.ID)
	}
	return headers
}
