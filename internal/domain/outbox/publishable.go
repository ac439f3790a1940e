package outbox

import "strings"

// Unpublishable returns the reason why no subscriber could read e, or an empty string. Validate keeps such messages out of the log, but
// somebody can insert a row without calling Validate.
func (e Entry) Unpublishable() string {
	switch year := e.RecordedAt.UTC().Year(); {
	case e.Invalid != "":
		return e.Invalid
	case e.RecordedAt.IsZero() || year < 1 || year > 9999:
		return "the time at which it was recorded is outside of the years 1 to 9999"
	case e.Position < 1:
		return "its position is below 1"
	case e.Version < 1:
		return "the version of its aggregate is below 1"
	case e.ID == "":
		return "it has no event id"
	case e.Type == "":
		return "it has no event type"
	case e.Key.Type == "" || e.Key.ID == "":
		return "it has no aggregate: the aggregate's type or id is empty"
	}
	for name, value := range e.Headers {
		if strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, '\r') >= 0 {
			return "its header " + name + " has a line break"
		}
	}
	return ""
}
