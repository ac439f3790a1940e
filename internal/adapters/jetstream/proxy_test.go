package jetstream_test

import (
	"bytes"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy sits between a client and the broker, and can make the network misbehave.
type proxy struct {
	URL string

	mu     sync.Mutex
	conns  []net.Conn
	word   []byte // once word was seen often enough, the broker's answers are swallowed
	left   int    // how often word may still pass; -1: always
	muted  bool
	worked sync.WaitGroup
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	target, err := url.Parse(server)
	require.NoError(t, err)
	p := &proxy{URL: "nats://" + listener.Addr().String(), left: -1}
	p.worked.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(client, target.Host)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.worked.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn, target string) {
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	pipe := func(to, from net.Conn, pass func([]byte) bool) {
		p.worked.Go(func() {
			defer func() { _, _ = to.Close(), from.Close() }()
			buffer := make([]byte, 64<<10)
			for {
				n, err := from.Read(buffer)
				if err != nil {
					return
				}
				if pass(buffer[:n]) {
					if _, err := to.Write(buffer[:n]); err != nil {
						return
					}
				}
			}
		})
	}
	pipe(server, client, func([]byte) bool { return true })
	pipe(client, server, p.passes)
}

func (p *proxy) passes(answer []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.muted {
		return false
	}
	if p.left >= 0 {
		if p.left -= bytes.Count(answer, p.word); p.left <= 0 {
			p.left, p.muted = -1, true
		}
	}
	return true
}

// MuteAfter swallows all answers of the broker after word has passed n times. With n 0, it swallows everything from now on.
func (p *proxy) MuteAfter(n int, word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.word, p.left, p.muted = []byte(strings.Clone(word)), n, n == 0
}

// Cut closes every connection. New connections work.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns, p.left, p.muted = nil, -1, false
}
