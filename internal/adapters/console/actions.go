package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
)

// action is a change that a person can ask for. Every action takes two steps at least: the first step shows what the action would do, and the
// last one does it. A final action cannot be undone, so it asks once more in between. The forms of all steps have the same fields.
type action struct {
	title  string // of its pages: Retry dead letters
	final  bool
	button string // of the last step: Retry
	// counted says that the plan has a Count. The last step counts again. If it would touch more events than somebody has confirmed, it does
	// nothing and asks again. Events that are chosen between this count and the change are still touched.
	counted bool
	// plan returns what the action would do.
	plan func(ctx context.Context, form url.Values) (plan, error)
	// do carries the action out, and returns what it has done. Its form has the version of the plan.
	do func(ctx context.Context, form url.Values) (done string, err error)
	// back is the page to which the last step leads.
	back func(form url.Values) string
}

// plan is what an action would do.
type plan struct {
	Lines   []string   // for people
	Text    string     // more, as it is
	Fields  url.Values // more fields for the last step, such as the version of the plan
	Nothing bool       // there is nothing to do
	Count   int        // how many events a counted action would touch; 0: the form names one event, or there is none
}

// The steps of an action, as the field "step" names them.
const (
	stepAsk  = "ask"  // of a final action: asks once more
	stepDo   = "do"   // carries the action out
	stepName = "step" // the field

	shownCount = "shown" // the field with the Count of the plan that was shown; missing: 0
)

// confirmation is the data of the page that asks.
type confirmation struct {
	Name   string
	Title  string
	Button string
	Back   string
	More   string // why the action was not done; empty: nobody has confirmed it yet
	Plan   plan
	Fields url.Values
	Next   string // the step that the page's button takes
	Again  bool   // the page asks once more
	Final  bool
}

func (c *Console) serveActions() {
	c.post("/actions/{name}", func(w http.ResponseWriter, r *http.Request) error {
		name := r.PathValue("name")
		a, known := c.actions[name]
		if !known {
			return errPage
		}
		if err := r.ParseForm(); err != nil {
			return errForm.Wrap(err)
		}
		form, step := r.PostForm, r.PostForm.Get(stepName)
		form.Del(stepName)
		asks := confirmation{Name: name, Title: a.title, Button: a.button, Back: a.back(form), Fields: form, Final: a.final}
		if err := c.takeStep(w, r, a, step, asks); err != nil {
			return &failedAt{err, asks.Back}
		}
		return nil
	})
}

// takeStep shows the page that asks, or carries the action out if the step is the last one.
func (c *Console) takeStep(w http.ResponseWriter, r *http.Request, a action, step string, asks confirmation) (err error) {
	form, status := asks.Fields, http.StatusOK
	if step != stepDo || a.counted {
		if asks.Plan, err = a.plan(r.Context(), form); err != nil {
			return err
		}
	}
	if step == stepDo {
		shown, err := strconv.Atoi(form.Get(shownCount))
		if err != nil {
			shown = 0 // the form comes from no page that showed a count
		}
		if asks.Plan.Count <= shown {
			done, err := a.do(r.Context(), form)
			if err != nil {
				return err
			}
			said(w, done)
			http.Redirect(w, r, asks.Back, http.StatusSeeOther)
			return nil
		}
		status = http.StatusConflict
		asks.More = fmt.Sprintf("Nothing was done, because the action would now touch %s; the page before showed %d.", wording.Counted(asks.Plan.Count, "event"), shown)
	}
	for field, values := range asks.Plan.Fields {
		form[field] = slices.Clone(values)
	}
	if a.counted {
		form.Set(shownCount, strconv.Itoa(asks.Plan.Count))
	}
	asks.Again, asks.Next = step == stepAsk, stepDo
	if a.final && !asks.Again {
		asks.Next = stepAsk
	}
	return c.show(w, r, "confirm", status, asks)
}
