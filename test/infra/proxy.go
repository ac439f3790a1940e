package infra

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands in front of a TCP server, and can turn connections into black holes. A black hole stays connected, accepts data and never
// answers, as if a firewall had forgotten the connection or the machine were gone.
type Proxy struct {
	listener net.Listener
	target   atomic.Pointer[string]
	silent   atomic.Bool  // new connections are black holes
	delay    atomic.Int64 // nanoseconds that data is on its way, in each direction

	mu     sync.Mutex
	links  []*link
	closed bool
	worked sync.WaitGroup
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	dead           atomic.Bool
}

// NewProxy starts a proxy in front of target, host:port. The proxy ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return ProxyOn(t, 0, target)
}

// ProxyOn is NewProxy on a given port.
func ProxyOn(t testing.TB, port int, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatalf("listen for the proxy: %v", err)
	}
	p := &Proxy{listener: listener}
	p.Move(target)
	p.worked.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(client)
		}
	})
	t.Cleanup(p.close)
	return p
}

// Addr returns the address on which the proxy listens: host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL returns address with the proxy in the place of its host.
func (p *Proxy) URL(t testing.TB, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatalf("read the address %s: %v", address, err)
	}
	parsed.Host = p.listener.Addr().String()
	return parsed.String()
}

// Move leads new connections to another target, as after a change of a DNS name. Open connections stay.
func (p *Proxy) Move(target string) { p.target.Store(&target) }

// Delay delays everything that passes from now on, in each direction.
func (p *Proxy) Delay(by time.Duration) { p.delay.Store(int64(by)) }

// Silence makes every open connection a black hole for good. New connections work.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.dead.Store(true)
	}
}

// SilenceAll makes every open connection a black hole, and also every connection that is opened before Restore is called.
func (p *Proxy) SilenceAll() {
	p.silent.Store(true)
	p.Silence()
}

// Restore lets new connections through again. Connections that are black holes stay so.
func (p *Proxy) Restore() { p.silent.Store(false) }

func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client}
	l.dead.Store(p.silent.Load())
	if !l.dead.Load() {
		server, err := net.Dial("tcp", *p.target.Load())
		if err != nil {
			_ = client.Close()
			return
		}
		l.server = server
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.close()
		return
	}
	p.links = append(p.links, l)
	if p.silent.Load() {
		l.dead.Store(true)
	}
	p.worked.Go(func() { l.pipe(l.server, l.client, &p.delay) })
	if l.server != nil {
		p.worked.Go(func() { l.pipe(l.client, l.server, &p.delay) })
	}
}

// pipe passes data on, from one connection to the other, until one of them ends. Then it closes the link. If the link is a black hole, pipe
// drops the data and leaves the link open.
func (l *link) pipe(to, from net.Conn, delay *atomic.Int64) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if l.dead.Load() {
			if err != nil {
				return
			}
			continue
		}
		if err == nil {
			time.Sleep(time.Duration(delay.Load()))
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			l.close()
			return
		}
	}
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for _, l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.worked.Wait()
}

func (l *link) close() {
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}
