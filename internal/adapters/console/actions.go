package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
)

// action is a change that a person can ask for. Every action takes two steps at least: the first step shows what the action would do, and the
// last one does it. A final action cannot be undone, so it asks once more in between. The forms of all steps have the same fields.
type action struct {
	title  string // of its pages: Retry dead letters
	final  bool
	button string // of the last step: Retry
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
}

// The steps of an action, as the field "step" names them.
const (
	stepAsk  = "ask"  // of a final action: asks once more
	stepDo   = "do"   // carries the action out
	stepName = "step" // the field
)

// confirmation is the data of the page that asks.
type confirmation struct {
	Name   string
	Title  string
	Button string
	Back   string
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
		if step == stepDo {
			done, err := a.do(r.Context(), form)
			if err != nil {
				return &failedAt{err, a.back(form)}
			}
			said(w, done)
			http.Redirect(w, r, a.back(form), http.StatusSeeOther)
			return nil
		}
		planned, err := a.plan(r.Context(), form)
		if err != nil {
			return &failedAt{err, a.back(form)}
		}
		for field, values := range planned.Fields {
			form[field] = slices.Clone(values)
		}
		next := stepDo
		if a.final && step != stepAsk {
			next = stepAsk
		}
		return c.show(w, r, "confirm", http.StatusOK, confirmation{
			Name: name, Title: a.title, Button: a.button, Back: a.back(form), Plan: planned, Fields: form, Next: next, Again: step == stepAsk, Final: a.final,
		})
	})
}
