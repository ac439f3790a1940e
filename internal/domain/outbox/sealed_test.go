package outbox_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// TestSealedPayloads checks that a sealed message shows nothing of its payload, names its key, can be appended, and can be opened again.
func TestSealedPayloads(t *testing.T) {
	key, message := outbox.NewSealKey(), valid()
	message.Headers = map[string]string{"traceparent": "00-1"}
	message.Payload = []byte(`{"customer_id": "550e8400-e29b-41d4-a716-446655440000"}`)
	sealed, err := message.Seal(key)
	require.NoError(t, err)
	require.NoError(t, sealed.Validate())
	require.NotContains(t, string(sealed.Payload), "550e8400")
	require.Equal(t, key.ID, sealed.SealedWith())
	require.Equal(t, map[string]string{"traceparent": "00-1", "ce-sealedkey": key.ID}, sealed.Headers)
	require.Equal(t, "application/vnd.outboxie.sealed+json", sealed.ContentType())
	require.Equal(t, "urn:outboxie:schema:outboxie.sealed.v1", sealed.Schema())
	require.Equal(t, map[string]string{"traceparent": "00-1"}, message.Headers, "the message itself is not changed")
	require.Equal(t, "application/json", message.ContentType())

	again, err := message.Seal(key)
	require.NoError(t, err)
	require.NotEqual(t, again.Payload, sealed.Payload, "each message has a nonce of its own")

	opened, err := sealed.Open(key)
	require.NoError(t, err)
	require.Equal(t, message.Payload, opened.Payload)
	require.Empty(t, opened.SealedWith())
	require.Equal(t, key.ID, opened.OpenedWith())
	require.Equal(t, []string{message.Schema(), message.ContentType()}, []string{opened.Schema(), opened.ContentType()})
	require.Error(t, opened.Validate(), "an opened message cannot be appended again by mistake")
	require.Empty(t, sealed.OpenedWith(), "the sealed message itself is not changed")
}

// TestSealedPayloadsBelongToTheirEvent checks that a sealed payload cannot be opened as the payload of another event, with another key, or
// after a change.
func TestSealedPayloadsBelongToTheirEvent(t *testing.T) {
	key := outbox.NewSealKey()
	sealed, err := valid().Seal(key)
	require.NoError(t, err)
	for name, change := range map[string]func(m *outbox.Message, k *outbox.SealKey){
		"another type":      func(m *outbox.Message, _ *outbox.SealKey) { m.Type = "outboxie.order.paid.v1" },
		"another aggregate": func(m *outbox.Message, _ *outbox.SealKey) { m.Key.ID = "8" },
		"another version":   func(m *outbox.Message, _ *outbox.SealKey) { m.Version = 2 },
		"another key":       func(_ *outbox.Message, k *outbox.SealKey) { k.Secret[0]++ },
		"another nonce":     func(m *outbox.Message, _ *outbox.SealKey) { m.Payload = bytes.Clone(m.Payload); m.Payload[12] ^= 1 },
		"no JSON":           func(m *outbox.Message, _ *outbox.SealKey) { m.Payload = []byte("x") },
		"a plain payload":   func(m *outbox.Message, _ *outbox.SealKey) { m.Payload = []byte(`{"customer_id": 1}`) },
		"too short":         func(m *outbox.Message, _ *outbox.SealKey) { m.Payload = []byte(`{"sealed": "AAAA"}`) },
	} {
		other, with := sealed, key
		change(&other, &with)
		_, err := other.Open(with)
		require.ErrorIs(t, err, outbox.ErrNotOpened, name)
	}
}

// TestSealedPayloadsOpenElsewhere checks that a program in another language can open a payload with what docs/personal-data.md says.
func TestSealedPayloadsOpenElsewhere(t *testing.T) {
	key := outbox.NewSealKey()
	sealed, err := valid().Seal(key)
	require.NoError(t, err)
	var body struct{ Sealed string }
	require.NoError(t, json.Unmarshal(sealed.Payload, &body))
	raw, err := base64.StdEncoding.DecodeString(body.Sealed)
	require.NoError(t, err)
	block, err := aes.NewCipher(key.Secret[:])
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	plain, err := gcm.Open(nil, raw[:12], raw[12:], []byte("outboxie.order.created.v1 order/7 1"))
	require.NoError(t, err)
	require.Equal(t, valid().Payload, plain)
}

// TestKeysDoNotPrintTheirSecret checks that a key that is printed or logged shows only its id.
func TestKeysDoNotPrintTheirSecret(t *testing.T) {
	key := outbox.NewSealKey()
	require.Len(t, key.ID, 36)
	require.NotEqual(t, key.ID, outbox.NewSealKey().ID)
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		require.Contains(t, []string{key.ID, "key " + key.ID}, fmt.Sprintf(format, key))
	}
	require.Equal(t, key.ID, key.LogValue().String())
}
