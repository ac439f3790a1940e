package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// haltChecks bounds the checks of the page about a halt.
const haltChecks = 5 * time.Second

// haltPage is the data of the page about a halt of the relay.
type haltPage struct {
	overview
	Broken bool // the relay is halted or set back
	Form   bool // the page offers the repair
	Checks []Check
}

func (c *Console) serveHalt() {
	c.get("/halt", func(w http.ResponseWriter, r *http.Request) error {
		view := c.recentView(r.Context())
		shown := haltPage{overview: c.newOverview(view, time.Now())}
		shown.Broken = shown.State == wording.Halted || shown.State == wording.SetBack
		shown.Form = shown.Broken || shown.Unread || shown.Stale != ""
		if r.Header.Get("HX-Request") == "" && c.Checks != nil { // the live part makes no work
			ctx, cancel := context.WithTimeout(r.Context(), haltChecks)
			defer cancel()
			shown.Checks = c.Checks(ctx)
		}
		return c.show(w, r, "halt", http.StatusOK, shown)
	})
	c.actions["adopt"] = action{
		title: "Repair the relay", final: true, button: "Adopt", plan: c.planAdoption, do: c.adopt,
		back: func(url.Values) string { return Path + "/halt" },
	}
}

// adoptVersion is the field with the version of the plan that a person has confirmed.
const adoptVersion = "version"

// adoption plans what a form asks for.
func (c *Console) adoption(ctx context.Context, form url.Values) (Adoption, error) {
	var position *outbox.Position
	if text := strings.TrimSpace(form.Get("position")); text != "" {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number < 0 {
			const reason = "must be a whole number from 0 on, or empty"
			return Adoption{}, errField.With("the position %q %s", text, reason).On("position", reason)
		}
		asked := outbox.Position(number)
		position = &asked
	}
	accept := form.Get("accept_repeats")
	if accept != "" && accept != "yes" {
		return Adoption{}, errField.With("the field accept_repeats must be yes or missing").On("accept_repeats", "must be yes or missing")
	}
	return c.Adopt(ctx, position, accept == "yes")
}

func (c *Console) planAdoption(ctx context.Context, form url.Values) (plan, error) {
	planned, err := c.adoption(ctx, form)
	if err != nil {
		return plan{}, err
	}
	return plan{Text: planned.Text, Fields: url.Values{adoptVersion: {planned.Version}}}, nil
}

// adopt plans again, and carries the plan out if it is the one that a person has confirmed.
func (c *Console) adopt(ctx context.Context, form url.Values) (string, error) {
	confirmed := form.Get(adoptVersion)
	if confirmed == "" {
		return "", errField.With("the form has no plan that was shown; begin again on the page about the halt")
	}
	planned, err := c.adoption(ctx, form)
	if err != nil {
		return "", err
	}
	if planned.Version != confirmed {
		return "", errPlanChanged.With("nothing was done, because the plan has changed since it was shown: the halt, the stream, the log or " +
			"the position is another one now; look at the plan again")
	}
	return wording.AdoptDone, planned.Do(ctx)
}
