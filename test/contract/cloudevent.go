package contract

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
)

// The headers of CloudEvents' binding for NATS in binary mode (3.1.3.1): each attribute under its name with a prefix. ceVersions has the
// attributes of each version of CloudEvents.
const cePrefix = "ce-"

var ceVersions = spec.WithPrefix(cePrefix)

// CloudEvent reads a message of the stream with the SDK of CloudEvents, and returns the event. It fails if the SDK finds the event not
// valid. It reads no header without the prefix.
func CloudEvent(headers map[string][]string, payload []byte) (event.Event, error) {
	read, err := binding.ToEvent(context.Background(), natsMessage{headers, payload})
	if err != nil {
		return event.Event{}, fmt.Errorf("the message is no CloudEvent: %w", err)
	}
	return *read, read.Validate()
}

// natsMessage is a message of NATS in binary mode, as the SDK reads it. The SDK's own module for NATS does the same, but does not decode the
// values as the binding asks for (3.1.3.2).
type natsMessage struct {
	headers map[string][]string
	payload []byte
}

var (
	_ binding.MessageReader         = natsMessage{}
	_ binding.MessageMetadataReader = natsMessage{}
)

func (m natsMessage) version() spec.Version {
	return ceVersions.Version(m.header(ceVersions.PrefixedSpecVersionName()))
}

// header returns the value of a header as it was sent, or an empty string.
func (m natsMessage) header(name string) string {
	if values := m.headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (m natsMessage) ReadEncoding() binding.Encoding {
	if m.version() == nil {
		return binding.EncodingUnknown
	}
	return binding.EncodingBinary
}

func (m natsMessage) ReadStructured(context.Context, binding.StructuredWriter) error {
	return binding.ErrNotStructured
}

func (m natsMessage) ReadBinary(_ context.Context, writer binding.BinaryWriter) error {
	for header := range m.headers {
		name, isAttribute := strings.CutPrefix(header, cePrefix)
		if !isAttribute {
			continue
		}
		value, err := url.PathUnescape(m.header(header))
		if err != nil {
			return fmt.Errorf("%s: %w", header, err)
		}
		if attribute := m.version().Attribute(header); attribute != nil {
			err = writer.SetAttribute(attribute, value)
		} else {
			err = writer.SetExtension(name, value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", header, err)
		}
	}
	return writer.SetData(bytes.NewReader(m.payload))
}

// GetAttribute returns the attribute of a kind. The SDK asks for the version with it.
func (m natsMessage) GetAttribute(kind spec.Kind) (attribute spec.Attribute, value any) {
	attribute = m.version().AttributeFromKind(kind)
	if attribute == nil || m.header(attribute.PrefixedName()) == "" {
		return attribute, nil
	}
	return attribute, m.header(attribute.PrefixedName())
}

func (m natsMessage) GetExtension(name string) any { return m.header(cePrefix + name) }
