package main

import (
	"context"
	"errors"
	"net"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// boundListeners has the listeners of a process. The process listens before it does anything else. So if a port is in use, the process
// changes nothing in the database. If a client connects early, the client waits until the server serves.
type boundListeners struct {
	api, admin net.Listener // nil: not served
}

// bind listens on the addresses of the servers that the process will run.
func bind(ctx context.Context, c config.Config, api, admin bool) (b *boundListeners, err error) {
	b = &boundListeners{}
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
func (b *boundListeners) close() (err error) {
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

// listenerParts gives a graph the listeners, if its command has bound them.
type listenerParts struct {
	fx.In
	Listeners *boundListeners `optional:"true"`
}

func (p listenerParts) api() net.Listener {
	if p.Listeners == nil {
		return nil
	}
	return p.Listeners.api
}

func (p listenerParts) admin() net.Listener {
	if p.Listeners == nil {
		return nil
	}
	return p.Listeners.admin
}
