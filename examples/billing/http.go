package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

const (
	maxBody        = 16 << 10
	requestTimeout = 10 * time.Second
)

// newAPI returns the handler of the service's own API.
func newAPI(store *Store) http.Handler {
	change := func(verb func(*Invoice) error) http.HandlerFunc {
		return answer(http.StatusOK, func(r *http.Request) (Invoice, error) { return store.Change(r.Context(), r.PathValue("id"), verb) })
	}
	routes := http.NewServeMux()
	routes.Handle("POST /invoices", answer(http.StatusCreated, func(r *http.Request) (Invoice, error) { return issue(r, store) }))
	routes.Handle("GET /invoices/{id}", answer(http.StatusOK, func(r *http.Request) (Invoice, error) {
		return store.Find(r.Context(), r.PathValue("id"))
	}))
	routes.Handle("POST /invoices/{id}/pay", change((*Invoice).Pay))
	routes.Handle("POST /invoices/{id}/void", change((*Invoice).Void))
	return routes
}

func issue(r *http.Request, store *Store) (Invoice, error) {
	var body struct {
		Customer string `json:"customer"`
		Cents    int64  `json:"cents"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return Invoice{}, refused{http.StatusBadRequest, "the body must be JSON like this: {\"customer\": \"ada\", \"cents\": 1250}"}
	}
	invoice, err := Issue(body.Customer, body.Cents)
	if err != nil {
		return Invoice{}, err
	}
	return invoice, store.Add(r.Context(), invoice)
}

// answer writes what handle returns: an invoice with a status, or an error as application/problem+json.
func answer(status int, handle func(r *http.Request) (Invoice, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		invoice, err := handle(r)
		if err != nil {
			problem := refused{http.StatusInternalServerError, "the service failed"}
			if !errors.As(err, &problem) {
				slog.ErrorContext(ctx, "a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			write(w, "application/problem+json", problem.status, map[string]any{
				"title": http.StatusText(problem.status), "status": problem.status, "detail": problem.reason,
			})
			return
		}
		if status == http.StatusCreated {
			w.Header().Set("Location", "/invoices/"+invoice.ID)
		}
		write(w, "application/json", status, invoice)
	}
}

func write(w http.ResponseWriter, contentType string, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // it fails only if the client is gone
}
