package outbox

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strconv"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// HeaderSealedKey is the header of a message whose payload is sealed. Its value is the id of the key. It is a CloudEvents extension that the
// writer sets.
const HeaderSealedKey = "ce-sealedkey"

// headerOpenedWith is the header of a message that Open returned. Its name is reserved for the relay, so a message with it can neither be
// appended nor come from a stream.
const headerOpenedWith = "Outbox-Opened-With"

// The media types of payloads.
const (
	plainContentType  = "application/json"
	sealedContentType = "application/vnd.outboxie.sealed+json"
)

// sealedSchema is the name of the schema of every sealed payload.
const sealedSchema = schemaPrefix + "outboxie.sealed.v1"

// ErrNotOpened reports that a sealed payload cannot be opened: it was changed, it belongs to another event, or the key is another one.
var ErrNotOpened = fault.New(fault.Refused, "payload_not_opened", "the sealed payload cannot be opened with its key")

// SealKey is a key of AES-256-GCM that seals payloads. If the key is erased, nobody can open the payloads that it sealed.
type SealKey struct {
	ID     string // a random UUID; it says nothing about whose key it is
	Secret [32]byte
}

// NewSealKey returns a new random key.
func NewSealKey() SealKey {
	var key SealKey
	_, _ = rand.Read(key.Secret[:]) // never fails
	var id [16]byte
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	text := hex.EncodeToString(id[:])
	key.ID = text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
	return key
}

// String returns the id. So a key that is printed does not reveal its secret.
func (k SealKey) String() string { return k.ID }

// GoString returns the id, too.
func (k SealKey) GoString() string { return "key " + k.ID }

// LogValue returns the id, too.
func (k SealKey) LogValue() slog.Value { return slog.StringValue(k.ID) }

// sealedPayload is the JSON of a sealed payload: the nonce, the ciphertext and the tag, in base64.
type sealedPayload struct {
	Sealed []byte `json:"sealed"`
}

// SealedWith returns the id of the key that sealed the payload, or an empty string if the payload is not sealed.
func (m Message) SealedWith() string { return m.Headers[HeaderSealedKey] }

// OpenedWith returns the id of the key with which Open opened the payload, or an empty string.
func (m Message) OpenedWith() string { return m.Headers[headerOpenedWith] }

// ContentType returns the media type of the payload.
func (m Message) ContentType() string {
	if m.SealedWith() != "" {
		return sealedContentType
	}
	return plainContentType
}

// Seal returns m with a sealed payload, and with the header that names the key. The payload can only be opened as the payload of this version
// of this aggregate, with this type. So nobody can move it into another message. m itself is not changed.
func (m Message) Seal(key SealKey) (Message, error) {
	seal, err := key.cipher()
	if err != nil {
		return Message{}, err
	}
	m.Payload, err = json.Marshal(sealedPayload{seal.Seal(nil, nil, m.Payload, m.sealedFor())})
	if err != nil {
		return Message{}, fmt.Errorf("seal message %s: %w", m.ID, err)
	}
	m.Headers = withHeader(m.Headers, HeaderSealedKey, key.ID)
	return m, nil
}

// Open is the reverse of Seal. The caller has found the key by SealedWith. The result has the plain payload, and OpenedWith returns the id of
// the key. Open fails with ErrNotOpened. m itself is not changed.
func (m Message) Open(key SealKey) (Message, error) {
	refuse := func(reason error) (Message, error) {
		return Message{}, ErrNotOpened.With("the sealed payload of message %s cannot be opened with the key %s", m.ID, key.ID).Wrap(reason)
	}
	open, err := key.cipher()
	if err != nil {
		return refuse(err)
	}
	var sealed sealedPayload
	if err := json.Unmarshal(m.Payload, &sealed); err != nil {
		return refuse(err)
	}
	if m.Payload, err = open.Open(nil, nil, sealed.Sealed, m.sealedFor()); err != nil {
		return refuse(err)
	}
	m.Headers = withHeader(m.Headers, headerOpenedWith, key.ID)
	delete(m.Headers, HeaderSealedKey)
	return m, nil
}

// cipher puts a random nonce of 96 bits before each ciphertext. A key is safe for 2^32 messages.
func (k SealKey) cipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.Secret[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealedFor is the data that is authenticated together with the payload. The log has each version of an aggregate once, so no other message
// has the same. The message's id is not part of it, because a handler that emits a message does not know the id.
func (m Message) sealedFor() []byte {
	return []byte(m.Type + " " + m.Key.String() + " " + strconv.FormatInt(m.Version, 10))
}

// withHeader returns a copy of headers with one more header.
func withHeader(headers map[string]string, name, value string) map[string]string {
	added := make(map[string]string, len(headers)+1)
	maps.Copy(added, headers)
	added[name] = value
	return added
}
