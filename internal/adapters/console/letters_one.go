package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
)

// maxShownPayload is how many bytes of a payload a page shows.
const maxShownPayload = 64 << 10

// letterPage is the data of the page of one letter.
type letterPage struct {
	letterRow
	Subscriber  string
	Back        string // path of the page of the subscriber's letters
	Facts       [][2]string
	Headers     [][2]string
	Whole       string // the whole error
	Payload     string
	ShowPayload bool
	HidePayload bool
	Cut         bool // the payload is longer
	PayloadLink string
}

func (c *Console) showLetter(w http.ResponseWriter, r *http.Request) error {
	subscriber, id := r.PathValue("subscriber"), r.PathValue("event")
	asked := r.URL.Query().Get("payload")
	if asked != "" && asked != "1" {
		return errChoice.With("payload must be 1, or left out")
	}
	if _, err := c.DeadGroups.ForSubscriber(r.Context(), subscriber); err != nil {
		return err
	}
	letter, err := c.DeadLetters.Letter(r.Context(), subscriber, id)
	if err != nil {
		return err
	}
	view, _ := c.Watcher.View()
	page := letterPage{
		letterRow: newLetterRow(subscriber, letter, databaseNow(view, time.Now())), Subscriber: subscriber, Back: linkToLetters(subscriber),
		Whole: printableLines(letter.Error), HidePayload: c.HidePayload, ShowPayload: asked == "1" && !c.HidePayload,
	}
	page.PayloadLink = page.Link + "?payload=1"
	page.Facts = [][2]string{
		{"state", printable.Text(string(letter.State))},
		{"failed first", page.Age + " ago (" + wording.Timestamp(letter.FirstFailedAt) + ")"},
		{"attempts", fmt.Sprint(letter.Attempts)},
		{"behind", wording.Counted(letter.Behind, "event")},
		{"subject", printable.Text(letter.Subject)},
	}
	if !letter.DeadAt.IsZero() {
		page.Facts = append(page.Facts, [2]string{"dead since", wording.Timestamp(letter.DeadAt)})
	}
	if letter.Readable() {
		page.Facts = append(page.Facts, [2]string{"type", printable.Text(letter.Type)},
			[2]string{"aggregate", fmt.Sprintf("%s, version %d", page.Aggregate, letter.Version)}, [2]string{"recorded", wording.Timestamp(letter.RecordedAt)})
	}
	if key := letter.SealedWith(); key != "" {
		page.Facts = append(page.Facts, [2]string{"sealed", "the payload is sealed with the key " + printable.Text(key) + "; only subscribers can open it"})
	}
	if letter.NoHandler {
		page.Facts = append(page.Facts, [2]string{"handler", "no running program has a handler of this type; a program that has one tries the letter by itself"})
	}
	for _, name := range slices.Sorted(maps.Keys(letter.Headers)) {
		page.Headers = append(page.Headers, [2]string{printable.Text(name), printable.Line(letter.Headers[name])})
	}
	if page.ShowPayload {
		page.Payload, page.Cut = shownPayload(letter.Payload)
	}
	return c.show(w, r, "letter", http.StatusOK, page)
}

// shownPayload returns the beginning of a payload for people, and whether the payload is longer than that.
func shownPayload(payload []byte) (text string, cut bool) {
	return printableLines(string(payload[:min(len(payload), maxShownPayload)])), len(payload) > maxShownPayload
}

// printableLines returns a foreign text with its line breaks.
func printableLines(text string) string {
	var shown strings.Builder
	_, _ = printable.NewWriter(&shown).Write([]byte(text)) // a Builder takes everything
	return shown.String()
}
