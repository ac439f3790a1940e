package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestAccess checks that an instance that knows only the name of the issuer starts while the issuer is down, then discovers the keys and asks for
// tokens, that the message in the stream names who caused the event, and that an instance with the address of the keys accepts the same tokens.
func TestAccess(t *testing.T) {
	issuer := infra.NewIssuer(t)
	issuer.SetDown(true)
	name := issuer.Publish()
	from := jwt.MapClaims{"iss": name}
	broker := infra.NATS(t).URL
	environment := []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + broker, "AUTH_ISSUER=" + name, "AUTH_AUDIENCE=" + infra.Audience}
	instance := infra.Serve(t, "app", environment)
	instance.WaitFor("the keys of the issuer of tokens cannot be read")
	customer := infra.Client{Address: instance.API(), Token: issuer.Token(infra.Customer, "orders:place orders:read", from)}
	const path, body = "/orders", `{"customer_id": "` + infra.Customer + `", "amount": 7}`
	_, err := customer.Call(t.Context(), http.MethodPost, path, body, nil)
	_ = requireProblem(t, err, http.StatusServiceUnavailable, "issuer_unavailable")
	issuer.SetDown(false)
	var order infra.Order
	eventually(t, func() bool {
		_, err = customer.Call(t.Context(), http.MethodPost, path, body, &order)
		return err == nil
	}, "no order is accepted after the issuer is back")

	_, err = infra.Place(instance.API())
	_ = requireProblem(t, err, http.StatusUnauthorized, "unauthorized")
	_, err = customer.Call(t.Context(), http.MethodPost, path+"/"+order.ID+"/pay", "{}", nil)
	_ = requireProblem(t, err, http.StatusForbidden, "insufficient_scope")
	stranger := infra.Client{Address: instance.API(), Token: issuer.Token("00000000-0000-4000-8000-00000000000b", "orders:read", from)}
	_, err = stranger.Call(t.Context(), http.MethodGet, path+"/"+order.ID, "", nil)
	_ = requireProblem(t, err, http.StatusNotFound, "order_not_found")
	instance.WaitFor("audit action=order.place order_id=" + order.ID + " actor_type=app_user actor=" + infra.Customer + " outcome=done")

	told := infra.Serve(t, "told", append(environment, "AUTH_JWKS_URL="+name+"/keys"))
	customer.Address = told.API()
	_, err = customer.Call(t.Context(), http.MethodGet, path+"/"+order.ID, "", nil)
	require.NoError(t, err)

	message := firstMessage(t, broker)
	require.Equal(t, order.ID, message.Headers().Get("ce-subject"))
	require.Equal(t, "app_user", message.Headers().Get("ce-authtype"))
	require.Equal(t, infra.Customer, message.Headers().Get("ce-authid"))
}

// firstMessage waits for the first event in the stream.
func firstMessage(t *testing.T, broker string) jetstream.Msg {
	t.Helper()
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	consumer, err := js.OrderedConsumer(t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"orders.>"}})
	require.NoError(t, err)
	message, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
	require.NoError(t, err)
	return message
}

// TestPlaygroundWithAccess checks that `make run ARGS=--auth` asks for tokens, and that `outboxie token` makes them,
// also for operators.
func TestPlaygroundWithAccess(t *testing.T) {
	data := dataDir(t)
	played := play(t, data, "--subscribers", "0", "--auth")
	require.Contains(t, played.String(), "  access       with tokens: ")
	_, err := infra.Place(played.API())
	_ = requireProblem(t, err, http.StatusUnauthorized, "unauthorized")
	token, err := infra.Outboxie(t, []string{"OUTBOXIE_DATA_DIR=" + data}, "token", "--customer", infra.Customer)
	require.NoError(t, err)
	order, err := infra.Place(played.API(), "Authorization: Bearer "+token[:len(token)-1])
	require.NoError(t, err)
	require.Equal(t, "created", order.Status)

	operator, err := infra.Outboxie(t, []string{"OUTBOXIE_DATA_DIR=" + data}, "token", "--operator", "ada")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, askAdmin(t, played.Admin(), "/outbox/status", "Bearer "+operator[:len(operator)-1]))
	require.Equal(t, http.StatusForbidden, askAdmin(t, played.Admin(), "/debug/pprof/heap", "Bearer "+operator[:len(operator)-1]))
}
