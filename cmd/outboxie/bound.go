package main

import (
	"context"
	"errors"
	"net"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// bound has the listeners of a process. The process listens before it does anything else. So if a port is in use, the process changes
// nothing in the database. If a client connects early, the client waits until the server serves.
type bound struct {
	api, admin net.Listener // nil: not served
}

// bind listens on the addresses of the servers that the process will run.
func bind(ctx context.Context, c config.Config, api, admin bool) (b *bound, err error) {
	b = &bound{}
	if api {
		b.api, err = httpapi.Bind(ctx, httpapi.APIName, c.HTTP.Addr)
	}
	if err == nil && admin {
		b.admin, err = httpapi.Bind(ctx, httpapi.AdminName, c.HTTP.AdminAddr)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close closes the listeners. A server may have closed them already.
func (b *bound) close() (err error) {
	for _, listener := range []net.Listener{b.api, b.admin} {
		if listener == nil {
			continue
		}
		if failed := listener.Close(); !errors.Is(failed, net.ErrClosed) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// boundParts gives a graph the listeners, if its command has bound them.
type boundParts struct {
	fx.In
	Bound *bound `optional:"true"`
}

func (p boundParts) api() net.Listener {
	if p.Bound == nil {
		return nil
	}
	return p.Bound.api
}

func (p boundParts) admin() net.Listener {
	if p.Bound == nil {
		return nil
	}
	return p.Bound.admin
}
