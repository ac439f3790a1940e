package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	lettersPath    = Path + "/letters"
	lettersRetry   = "letters-retry"
	lettersDiscard = "letters-discard"
)

// lettersPage is the data of the page that lists the subscribers.
type lettersPage struct {
	Rows       []lettersOfRow
	Reading    string
	ReadingBad bool
	Unread     bool   // there is no reading yet
	NoRight    string // why the subscribers cannot be read, and what cures that; empty: they were read
}

type lettersOfRow struct {
	operations.SubscriberSummary
	State string
	Link  string
}

// lettersOfPage is the data of the page of one subscriber's letters.
type lettersOfPage struct {
	Subscriber string
	Groups     undecidedGroups
	Rows       []letterRow
	More       bool                          // there are more letters than Rows
	Total      *operations.SubscriberSummary // nil: the reading does not have the subscriber
	Reading    string
	ReadingBad bool
}

type letterRow struct {
	inbox.Letter
	Link         string
	PositionLink string // empty: the message is not an event
	Position     string
	Aggregate    string
	Age          string
	Error        string
	CanRetry     bool
	CanDiscard   bool
}

func (c *Console) serveLetters() {
	shared := newSharedGroups(c.closed)
	c.get("/letters", func(w http.ResponseWriter, r *http.Request) error {
		return c.show(w, r, "letters", http.StatusOK, c.newLettersPage(r.Context()))
	})
	c.get("/letters/{subscriber}", func(w http.ResponseWriter, r *http.Request) error {
		page, err := c.newLettersOfPage(r.Context(), shared, r.PathValue("subscriber"))
		if err != nil {
			return err
		}
		return c.show(w, r, "letters-of", http.StatusOK, page)
	})
	c.get("/letters/{subscriber}/{event}", c.showLetter)
	back := func(form url.Values) string { return linkToLetters(form.Get(choiceSubscriber)) }
	c.actions[lettersRetry] = action{
		title: "Retry dead letters", button: "Retry", counted: true, back: back, plan: c.planLettersRetry,
		do: func(ctx context.Context, form url.Values) (string, error) {
			defer shared.forget(form.Get(choiceSubscriber))
			return c.retryLetters(ctx, form)
		},
	}
	c.actions[lettersDiscard] = action{
		title: "Discard dead letters for ever", button: "Discard for ever", final: true, counted: true, back: back, plan: c.planLettersDiscard,
		do: func(ctx context.Context, form url.Values) (string, error) {
			defer shared.forget(form.Get(choiceSubscriber))
			return c.discardLetters(ctx, form)
		},
	}
}

// linkToLetters returns the path of the page of a subscriber's letters.
func linkToLetters(subscriber string) string { return lettersPath + "/" + url.PathEscape(subscriber) }

// linkToLetter returns the path of the page of a letter.
func linkToLetter(subscriber, id string) string {
	return linkToLetters(subscriber) + "/" + url.PathEscape(id)
}

func (c *Console) newLettersPage(ctx context.Context) lettersPage {
	view, now := c.recentView(ctx), time.Now()
	page := lettersPage{Unread: view.At.IsZero()}
	page.Reading, page.ReadingBad = describeReadingAge(view, now)
	if view.Unreadable != nil {
		page.NoRight = c.explain(view.Unreadable)
	}
	for _, s := range view.Subscribers {
		page.Rows = append(page.Rows, lettersOfRow{
			SubscriberSummary: s, State: wording.DescribeSummary(s, view.Relay.Now), Link: linkToLetters(s.Subscriber),
		})
	}
	return page
}

func (c *Console) newLettersOfPage(ctx context.Context, shared *sharedGroups, subscriber string) (lettersOfPage, error) {
	page := lettersOfPage{Subscriber: subscriber}
	groups, age, err := shared.read(ctx, subscriber, func(ctx context.Context) (operations.Groups, error) {
		letters, err := c.DeadGroups.ForSubscriber(ctx, subscriber)
		if err != nil {
			return operations.Groups{}, err
		}
		return letters.Groups(ctx)
	})
	if err != nil {
		return page, err
	}
	letters, err := c.DeadLetters.Letters(ctx, subscriber, maxUndecided+1)
	if err != nil {
		return page, err
	}
	view, now := c.recentView(ctx), time.Now()
	page.Reading, page.ReadingBad = describeReadingAge(view, now)
	for _, s := range view.Subscribers {
		if s.Subscriber == subscriber {
			page.Total = &s
		}
	}
	clock := databaseNow(view, now)
	page.Groups = newUndecidedGroups(groups, age, clock, func(u operations.UndecidedEvent) string { return linkToLetter(subscriber, u.EventID) })
	page.Groups.Subscriber, page.Groups.None = subscriber, wording.NothingDead(subscriber)
	page.Groups.undecidedVerbs = undecidedVerbs{Retry: lettersRetry, RetryWord: "Retry", Discard: lettersDiscard}
	page.More = len(letters) > maxUndecided
	for _, letter := range letters[:min(len(letters), maxUndecided)] {
		page.Rows = append(page.Rows, newLetterRow(subscriber, letter, clock))
	}
	return page, nil
}

func newLetterRow(subscriber string, letter inbox.Letter, now time.Time) letterRow {
	row := letterRow{
		Letter: letter, Link: linkToLetter(subscriber, letter.ID), Position: "-", Aggregate: "-", Age: wording.Since(now, letter.FirstFailedAt),
		Error: wording.FirstLine(letter.Error), CanRetry: letter.State == inbox.Dead && letter.Readable(), CanDiscard: letter.State != inbox.Discarded,
	}
	if letter.Readable() {
		row.PositionLink, row.Position = linkToEvent(letter.Position), strconv.FormatInt(int64(letter.Position), 10)
		row.Aggregate = printable.Text(letter.Key.String())
	}
	return row
}
