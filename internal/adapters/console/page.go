package console

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// The files in static are the console's own, and htmx (Zero-Clause BSD), which `make console-assets` fetches.
//
//go:embed templates static
var files embed.FS

// functions are what templates call beside the methods of their data.
var functions = template.FuncMap{
	"text":     printable.Text,
	"line":     printable.Line,
	"age":      wording.Age,
	"time":     wording.Timestamp,
	"since":    func(now, at time.Time) string { return wording.Since(now, at) },
	"events":   func(n any) string { return countOf(n, "event") },
	"things":   countOf,
	"indented": func(line string) bool { return strings.HasPrefix(line, "  ") },
	"trim":     strings.TrimSpace,
	"path":     func() string { return Path },
	"segment":  url.PathEscape, // a foreign name as one part of a path
	"nav":      newLink,
	"decide":   newDecisions,
}

// link is a link of the navigation.
type link struct {
	To, Name string
	Here     bool // the page belongs to it
}

func newLink(v view, to, name string) link { return link{To: to, Name: name, Here: v.Section == to} }

// countOf returns a number of any integer type with its noun.
func countOf(n any, noun string) string {
	switch n := n.(type) {
	case int:
		return wording.Counted(n, noun)
	case int64:
		return wording.Counted(n, noun)
	case uint64:
		return wording.Counted(int64(min(n, 1<<62)), noun)
	}
	return noun
}

// parsePages returns the template of each page, by name: layout.html, partials.html and the page's own file.
func parsePages() map[string]*template.Template {
	pages := make(map[string]*template.Template)
	entries, _ := files.ReadDir("templates") // embedded, so it cannot fail
	shared := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/partials.html"))
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".html")
		if name == "layout" || name == "partials" {
			continue
		}
		own := template.Must(shared.Clone())
		pages[name] = template.Must(own.ParseFS(files, path.Join("templates", entry.Name())))
	}
	return pages
}

// view is what every template gets.
type view struct {
	URL       string // of the page, with its query
	Section   string // first part of the path below Path
	Said      string // what the form before has done
	SignedIn  bool
	MayWrite  bool   // the page has forms that change something
	Operator  string // who has signed in; empty: the token does not tell its holders apart
	CanLeave  bool   // there is a session to end
	HasOrders bool
	Instance  string
	Version   string
	Data      any
}

// show answers with a page. If htmx asks for the page, only its block "live" is sent.
func (c *Console) show(w http.ResponseWriter, r *http.Request, name string, status int, data any) error {
	section, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, Path), "/"), "/")
	who := c.Operator(r)
	v := view{
		URL: r.URL.RequestURI(), Section: section, SignedIn: who.Scope.Allows(operations.ScopeRead), MayWrite: who.Scope.Allows(operations.ScopeWrite),
		Operator: who.Name, CanLeave: !c.Open, HasOrders: c.Orders != nil,
		Instance: c.Instance, Version: c.Version, Data: data,
	}
	block := "layout"
	if r.Header.Get("HX-Request") != "" {
		block = "live"
	} else {
		v.Said = heard(w, r)
	}
	var body bytes.Buffer // an error must not come after half of a page
	if err := c.pages[name].ExecuteTemplate(&body, block, v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may have gone
	return nil
}

// failure is the data of the page that shows an error.
type failure struct {
	Status  int
	Message string
	Back    string // address of a page to go on with
	Page    string // its name
}

// failedAt is the error of a form, with the address of the page from which it came.
type failedAt struct {
	error
	back string
}

func (f *failedAt) Unwrap() error { return f.error }

// fail answers with an error.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	shown := failure{Status: statusOf(err), Message: c.explain(err), Back: Path, Page: "the overview"}
	if located := new(failedAt); errors.As(err, &located) {
		shown.Back, shown.Page = located.back, "the page before"
	}
	level := c.Logger.DebugContext
	if shown.Status == http.StatusInternalServerError {
		level = c.Logger.ErrorContext
	}
	level(r.Context(), "the console refused a request or failed", "method", r.Method, "path", r.URL.Path, "error", err)
	if r.Header.Get("HX-Request") != "" { // the page keeps what it shows, and says that this is old
		http.Error(w, printable.Line(shown.Message), shown.Status)
		return
	}
	if err := c.show(w, r, "failed", shown.Status, shown); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
	}
}

// explain returns an error in words. If a right is missing in the database, it adds the statement that grants the right.
func (c *Console) explain(err error) string {
	text := printable.Line(err.Error())
	if errors.Is(err, operations.ErrNoRight) {
		text += ". The console may do what the database role of its process may. To let it do what an operator may, " +
			"run docker/roles.sql, and then: " + cmp.Or(c.Grant, "GRANT outboxie_operator TO the role")
	}
	return text
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, errOrigin), errors.Is(err, operations.ErrNoRight), errors.Is(err, operations.ErrScope):
		return http.StatusForbidden
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict, fault.Refused:
		return http.StatusConflict
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".LICENSE": "text/plain; charset=utf-8",
}

func (c *Console) serveStatic() {
	c.get("/static/{file}", func(w http.ResponseWriter, r *http.Request) error {
		name := r.PathValue("file")
		content, err := files.ReadFile(path.Join("static", name))
		if err != nil {
			return errPage
		}
		w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write(content)
		return nil
	})
	c.mux.HandleFunc(Path+"/", c.orFail(func(http.ResponseWriter, *http.Request) error { return errPage }))
}
