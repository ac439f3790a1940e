package console_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// counted is an admin of 100,000 dead letters of any subscriber. It counts how often they are grouped, and takes two seconds each time.
type counted struct {
	operations.DeadLetterAdmin
	mu      sync.Mutex
	grouped map[string]int // by subscriber
	most    int            // the highest limit of a list
	err     error
}

// countedOf is counted for one subscriber.
type countedOf struct {
	operations.UndecidedEventsAdmin
	all        *counted
	subscriber string
}

func (c *counted) ForSubscriber(_ context.Context, subscriber string) (operations.UndecidedEventsAdmin, error) {
	return countedOf{all: c, subscriber: subscriber}, nil
}

func (c *counted) Letters(_ context.Context, _ string, limit int) ([]inbox.Letter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = max(c.most, limit)
	return make([]inbox.Letter, limit), nil
}

func (c countedOf) Groups(ctx context.Context) (operations.Groups, error) {
	c.all.mu.Lock()
	c.all.grouped[c.subscriber]++
	err := c.all.err
	c.all.mu.Unlock()
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return operations.Groups{}, ctx.Err()
	}
	return operations.Groups{Events: operations.MaxGroupedEvents, All: 1, More: true, List: make([]operations.Group, 1)}, err
}

func (countedOf) Count(context.Context, operations.Choice) (operations.ChoiceCount, error) {
	return operations.ChoiceCount{Events: 7}, nil
}

func (countedOf) Retry(context.Context, operations.Choice) (int, error) { return 7, nil }

func (c *counted) times(subscriber string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grouped[subscriber]
}

// serve serves a request without a network.
func serve(ctx context.Context, pages *console.Console, method, path string, form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(ctx, method, console.Path+path, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	return answer
}

func openCounted(t *testing.T) (*console.Console, *counted) {
	t.Helper()
	c := &counted{grouped: make(map[string]int)}
	pages := console.New(console.Options{Open: true, DeadLetters: c, DeadGroups: c, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(pages.Close)
	return pages, c
}

// TestGroupsAreShared checks that viewers share the groups of a subscriber for five seconds, also while they are counted, and that an action
// ends this.
func TestGroupsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages, c := openCounted(t)
		var viewers sync.WaitGroup
		for range 20 {
			viewers.Go(func() {
				answer := serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil)
				require.Equal(t, http.StatusOK, answer.Code)
				require.NotContains(t, answer.Body.String(), "Counted ")
				require.Contains(t, answer.Body.String(), "100000 events in 1 group. There are more events, which were not looked at.")
				require.Contains(t, answer.Body.String(), "These are the first 100; there are more.")
			})
		}
		viewers.Wait()
		require.Equal(t, 1, c.times("emails"))
		require.Equal(t, 101, c.most, "the list is bounded")

		time.Sleep(4 * time.Second)
		require.Contains(t, serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil).Body.String(), "Counted 6s ago.")
		require.Equal(t, 1, c.times("emails"))
		require.NotContains(t, serve(t.Context(), pages, http.MethodGet, "/letters/bills", nil).Body.String(), "Counted ", "of another subscriber")
		require.Equal(t, 2, c.times("emails")+c.times("bills"))
		require.NotContains(t, serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil).Body.String(), "Counted ", "they have expired")
		require.Equal(t, 2, c.times("emails"))

		answer := serve(t.Context(), pages, http.MethodPost, "/actions/letters-retry", url.Values{"subscriber": {"emails"}, "all": {"true"}, "step": {"do"}, "shown": {"7"}})
		require.Equal(t, http.StatusSeeOther, answer.Code)
		require.Equal(t, "/console/letters/emails", answer.Header().Get("Location"))
		require.NotContains(t, serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil).Body.String(), "Counted ", "the action has changed them")
		require.Equal(t, 3, c.times("emails"))
		require.Equal(t, 1, c.times("bills"))
	})
}

// TestChangeWhileGroupsAreCounted checks that groups whose count began before an action are not shown after it.
func TestChangeWhileGroupsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages, c := openCounted(t)
		go serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil)
		time.Sleep(time.Second)
		serve(t.Context(), pages, http.MethodPost, "/actions/letters-retry", url.Values{"subscriber": {"emails"}, "all": {"true"}, "step": {"do"}, "shown": {"7"}})
		require.NotContains(t, serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil).Body.String(), "Counted ")
		require.Equal(t, 2, c.times("emails"))
	})
}

// TestGroupsOutliveTheirViewer checks that a viewer who leaves does not end the count for the others, and that errors are not kept.
func TestGroupsOutliveTheirViewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages, c := openCounted(t)
		ctx, leave := context.WithCancel(t.Context())
		go serve(ctx, pages, http.MethodGet, "/letters/emails", nil)
		time.Sleep(time.Second)
		leave()
		require.Equal(t, http.StatusOK, serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil).Code)
		require.Equal(t, 1, c.times("emails"))

		c.err = errors.New("no database")
		require.Equal(t, http.StatusInternalServerError, serve(t.Context(), pages, http.MethodGet, "/letters/bills", nil).Code)
		c.err = nil
		require.Equal(t, http.StatusOK, serve(t.Context(), pages, http.MethodGet, "/letters/bills", nil).Code)
		require.Equal(t, 2, c.times("bills"))

		go serve(t.Context(), pages, http.MethodGet, "/letters/last", nil)
		synctest.Wait()
		pages.Close() // ends the count at once
	})
}

// TestKeptGroupsAreBounded checks that the groups of many subscribers do not fill the memory: the oldest are dropped.
func TestKeptGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages, c := openCounted(t)
		var viewers sync.WaitGroup
		serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil)
		for n := range 64 {
			viewers.Go(func() { serve(t.Context(), pages, http.MethodGet, fmt.Sprintf("/letters/s%d", n), nil) })
		}
		viewers.Wait()
		serve(t.Context(), pages, http.MethodGet, "/letters/emails", nil)
		require.Equal(t, 2, c.times("emails"))
	})
}
