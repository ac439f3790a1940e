package infra

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands in front of a TCP server and can become a black hole: a peer that stays connected, takes what it is sent and
// never says a word, as when a firewall has forgotten a connection or a machine is gone.
type Proxy struct {
	listener net.Listener
	target   atomic.Pointer[string]
	silent   atomic.Bool // for connections that are opened now

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

// NewProxy stands in front of target, host:port, until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return ProxyOn(t, 0, target)
}

// ProxyOn is NewProxy on a port of the test's choice.
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

// Addr is where the proxy listens: host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is address with the proxy in front of its host.
func (p *Proxy) URL(t testing.TB, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatalf("read the address %s: %v", address, err)
	}
	parsed.Host = p.listener.Addr().String()
	return parsed.String()
}

// Move leads the connections that are opened from now on to another target, as a name does that was pointed elsewhere. Those that
// are open stay.
func (p *Proxy) Move(target string) { p.target.Store(&target) }

// Silence makes a black hole of every open connection, for good. New ones work.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.dead.Store(true)
	}
}

// SilenceAll makes a black hole of every open connection and, until Restore, of each that is opened.
func (p *Proxy) SilenceAll() {
	p.silent.Store(true)
	p.Silence()
}

// Restore lets new connections through again. Those that fell silent stay so.
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
	p.worked.Go(func() { l.pipe(l.server, l.client) })
	if l.server != nil {
		p.worked.Go(func() { l.pipe(l.client, l.server) })
	}
}

// pipe passes on what from says, also that it is done, until the link is dead. Then it swallows.
func (l *link) pipe(to, from net.Conn) {
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
