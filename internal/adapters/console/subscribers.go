package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// maxSubscriberRows is how many subscribers, lanes, copies or types a page shows.
const maxSubscriberRows = 100

// subscriberLine is a subscriber in a list.
type subscriberLine struct {
	subscriberRow
	Link     string // the name as a part of an address
	Sequence string // of the slowest lane
}

// subscriberList is the data of the list of subscribers.
type subscriberList struct {
	overview
	Lines []subscriberLine
	From  string // the list begins after this name; empty: it begins with the first one
	Next  string // address of the next page; empty: there is none
}

// laneRow is a lane of a subscriber.
type laneRow struct {
	inbox.Checkpoint
	Behind uint64
	Stored string
	Idle   string
}

// subscriberPage is the data of the page of one subscriber.
type subscriberPage struct {
	overview
	Name      string
	One       *subscriberLine // nil: the reading does not have the subscriber
	Forgotten bool
	Lanes     []laneRow
	MoreLanes int // lanes that are not shown: the page shows the slowest ones
	Copies    []string
	Types     []string
	Lags      []chart
	MaxLanes  int
	Places    string

	MoreCopies, MoreTypes int // that are not shown
}

func (c *Console) serveSubscribers() {
	c.get("/subscribers", func(w http.ResponseWriter, r *http.Request) error {
		view := c.recentView(r.Context())
		return c.show(w, r, "subscribers", http.StatusOK, c.newSubscriberList(view, r.FormValue("from"), time.Now()))
	})
	c.get("/subscribers/{subscriber}", func(w http.ResponseWriter, r *http.Request) error {
		view := c.recentView(r.Context())
		shown := c.newSubscriberPage(view, r.PathValue("subscriber"), time.Now())
		if shown.One == nil && !shown.Unread && r.Header.Get("HX-Request") == "" { // a live part says in its page that the subscriber is gone
			found, err := c.findSubscriber(r.Context(), shown.Name) // it may have begun since the reading
			if err != nil {
				return remedied(err, shown.Name)
			}
			view.Subscribers = append(slices.Clone(view.Subscribers), found)
			shown = c.newSubscriberPage(view, shown.Name, time.Now())
		}
		return c.show(w, r, "subscriber", http.StatusOK, shown)
	})
	c.serveSubscriberActions()
}

func errNoSubscriber(name string) *fault.Error {
	return inbox.ErrNoSubscriber.With("there is no subscriber %s", printable.Text(name))
}

// subscriberAddress returns the address of the page of a subscriber.
func subscriberAddress(name string) string {
	return Path + "/subscribers/" + url.PathEscape(name)
}

func (c *Console) newSubscriberList(view operations.View, from string, now time.Time) subscriberList {
	all := slices.DeleteFunc(slices.Clone(view.Subscribers), func(s operations.SubscriberSummary) bool { return s.Subscriber <= from && from != "" })
	slices.SortFunc(all, func(a, b operations.SubscriberSummary) int { return cmp.Compare(a.Subscriber, b.Subscriber) }) // a database may sort otherwise
	shown := subscriberList{From: from}
	if len(all) > maxSubscriberRows {
		all = all[:maxSubscriberRows]
		shown.Next = Path + "/subscribers?" + url.Values{"from": {all[len(all)-1].Subscriber}}.Encode()
	}
	view.Subscribers = all
	shown.overview = c.newOverview(view, now)
	for _, row := range shown.Subscribers {
		shown.Lines = append(shown.Lines, newSubscriberLine(row))
	}
	return shown
}

func newSubscriberLine(row subscriberRow) subscriberLine {
	line := subscriberLine{subscriberRow: row, Link: url.PathEscape(row.Subscriber), Sequence: "-"}
	if len(row.Lanes) > 0 {
		line.Sequence = fmt.Sprint(inbox.Lowest(row.Lanes).Sequence)
	} else {
		line.Behind = "-"
	}
	return line
}

func (c *Console) newSubscriberPage(view operations.View, name string, now time.Time) subscriberPage {
	view.Subscribers = slices.DeleteFunc(slices.Clone(view.Subscribers), func(s operations.SubscriberSummary) bool { return s.Subscriber != name })
	shown := subscriberPage{overview: c.newOverview(view, now), Name: name, MaxLanes: inbox.MaxLanes, Places: wording.Places}
	if len(shown.Subscribers) == 0 {
		return shown
	}
	one := newSubscriberLine(shown.Subscribers[0])
	shown.One, shown.Forgotten = &one, !one.Forgotten.IsZero()
	shown.Lanes, shown.MoreLanes = laneRows(one.Lanes, view.Relay.Sequence)
	shown.Copies, shown.MoreCopies = firstOf(one.Copies)
	shown.Types, shown.MoreTypes = firstOf(one.Types)
	shown.Lags = []chart{
		newChart(view, "Applied", "/s", func(p operations.Point) float64 { return p.Applied[name] }),
		newChart(view, "Messages behind", "", func(p operations.Point) float64 { return float64(p.Lags[name]) }),
	}
	return shown
}

// firstOf returns the first texts, and how many are left out.
func firstOf(all []string) (shown []string, more int) {
	shown = all[:min(len(all), maxSubscriberRows)]
	return shown, len(all) - len(shown)
}

// laneRows returns the slowest lanes in order of their numbers, and how many lanes are left out. end is the sequence of the stream's last
// message.
func laneRows(lanes []inbox.Checkpoint, end uint64) (rows []laneRow, more int) {
	slowest := slices.Clone(lanes)
	slices.SortStableFunc(slowest, func(a, b inbox.Checkpoint) int { return cmp.Compare(a.Sequence, b.Sequence) })
	slowest = slowest[:min(len(slowest), maxSubscriberRows)]
	slices.SortFunc(slowest, func(a, b inbox.Checkpoint) int { return cmp.Compare(a.Lane, b.Lane) })
	for _, lane := range slowest {
		rows = append(rows, laneRow{
			Checkpoint: lane, Behind: end - min(lane.Sequence, end), Stored: wording.Timestamp(lane.StoredAt), Idle: wording.Age(lane.Idle),
		})
	}
	return rows, len(lanes) - len(rows)
}

// remedied adds to an error about a subscriber what an operator can do about it.
func remedied(err error, name string) error {
	if remedy := wording.SubscriberRemedy(err, name); remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}
