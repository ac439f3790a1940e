package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// FormatJSON is the log format for machines: one JSON object a line. Any other name is the text format for people:
// time, level, message, key=value.
const FormatJSON = "json"

// NewLogger returns a logger that writes to w, one line per record. If the context of a record has a span, the record gets the span's
// trace_id and span_id.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == FormatJSON {
		return slog.New(traceHandler{slog.NewJSONHandler(w, options)})
	}
	return slog.New(traceHandler{newTextHandler(w, options)})
}

// traceHandler adds the ids of the span in the record's context.
type traceHandler struct{ slog.Handler }

// Handle adds trace_id and span_id.
func (h traceHandler) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record = record.Clone()
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs keeps the trace.
func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the trace.
func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

// textHandler writes time, level and message in a short form for people, and then the fields as slog's text handler writes them.
type textHandler struct {
	fields slog.Handler // slog's text handler; writes into out.buffer
	out    *textOutput
}

type textOutput struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	w      io.Writer
}

// textPrefix is the text that slog's text handler writes for a record without time and message.
const textPrefix = `level=INFO msg=""`

func newTextHandler(w io.Writer, options *slog.HandlerOptions) textHandler {
	out := &textOutput{w: w}
	return textHandler{fields: slog.NewTextHandler(&out.buffer, options), out: out}
}

// Enabled reports whether records of the level are written.
func (h textHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.fields.Enabled(ctx, level)
}

// Handle writes the line at once.
func (h textHandler) Handle(ctx context.Context, record slog.Record) error {
	fields := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0)
	record.Attrs(func(attr slog.Attr) bool {
		fields.AddAttrs(attr)
		return true
	})
	message := record.Message
	if strings.ContainsFunc(message, func(r rune) bool { return !strconv.IsPrint(r) }) {
		message = strconv.Quote(message) // one record stays one line
	}
	return h.out.write(ctx, h.fields, fields, fmt.Sprintf("%s %-5s %s",
		record.Time.Format("15:04:05.000"), record.Level, message))
}

func (o *textOutput) write(ctx context.Context, fields slog.Handler, record slog.Record, head string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buffer.Reset()
	if err := fields.Handle(ctx, record); err != nil {
		return err
	}
	line := append([]byte(head), bytes.TrimPrefix(o.buffer.Bytes(), []byte(textPrefix))...)
	_, err := o.w.Write(line)
	return err
}

// WithAttrs keeps the format.
func (h textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return textHandler{fields: h.fields.WithAttrs(attrs), out: h.out}
}

// WithGroup keeps the format.
func (h textHandler) WithGroup(name string) slog.Handler {
	return textHandler{fields: h.fields.WithGroup(name), out: h.out}
}
