package chaos_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// network is how the connections through a proxy behave.
type network int

const (
	passing  network = iota
	cut              // every connection is closed, and new ones are closed at once
	deafened         // what the client sends does not arrive; what the server sends does
	muted            // what the server sends does not arrive; what the client sends does
	slow             // every piece is late, and few bytes pass in a second
	silent           // connections are accepted, and nothing passes: half-open
	stranded         // nothing passes through existing connections; new ones work
)

// String returns the name in the log of faults.
func (n network) String() string {
	return [...]string{"passing", "cut", "one-way (requests lost)", "one-way (answers lost)", "slow", "half-open", "black hole"}[n]
}

const (
	slowDelay = 40 * time.Millisecond
	slowPiece = 4 << 10 // bytes that pass at once, at most
)

// proxy stands between one process and one server, and disturbs the network. Like TCP it never loses bytes in the middle of a connection: it
// holds them back until the network works again, or the connection ends without them.
type proxy struct {
	name     string // of the server
	listener net.Listener
	worked   sync.WaitGroup

	mu      sync.Mutex
	target  string
	state   network
	changed chan struct{}     // closed with every change of state
	conns   map[net.Conn]bool // true: the connection existed when the network became stranded
	closed  bool
}

func newProxy(t testing.TB, name, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{
		name: name, target: target, listener: listener, changed: make(chan struct{}), conns: make(map[net.Conn]bool),
	}
	p.worked.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.become(cut, false)
		p.worked.Wait()
	})
	return p
}

// address returns the address to which the process connects.
func (p *proxy) address() string { return p.listener.Addr().String() }

// become changes the state of the network. With resume, bytes that were held back pass on; otherwise the present connections end without them.
func (p *proxy) become(state network, resume bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	for conn := range p.conns {
		p.conns[conn] = state == stranded
	}
	close(p.changed)
	p.changed = make(chan struct{})
	if !resume {
		for conn := range p.conns {
			_ = conn.Close()
		}
	}
}

// lead leads the connections that are opened from now on to another server. Existing connections stay.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) leads() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *proxy) look() (network, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.changed
}

// lookFrom returns the state for one connection. A stranded network is passing for connections that were opened afterwards.
func (p *proxy) lookFrom(conn net.Conn) (network, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == stranded && !p.conns[conn] {
		return passing, p.changed
	}
	return p.state, p.changed
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.keep(client) {
			continue
		}
		p.worked.Go(func() { p.serve(client) })
	}
}

// keep registers a connection. If the proxy is closed or the network is cut, it closes the connection and returns false.
func (p *proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.state == cut {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = false
	return true
}

func (p *proxy) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = conn.Close()
	delete(p.conns, conn)
}

func (p *proxy) kept(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, is := p.conns[conn]
	return is && !p.closed
}

func (p *proxy) serve(client net.Conn) {
	defer p.drop(client)
	for state, changed := p.look(); state == silent; state, changed = p.look() {
		<-changed
		if !p.kept(client) {
			return
		}
	}
	server, err := net.DialTimeout("tcp", p.leads(), 5*time.Second)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, client, deafened) })
	both.Go(func() { p.pump(client, server, muted) })
	both.Wait()
}

// pump copies one direction until either end is closed. held is the state that stops it, besides silent and stranded.
func (p *proxy) pump(to, from net.Conn, held network) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			state, changed := p.lookFrom(from)
			piece := rest
			switch state {
			case cut:
				return
			case held, silent, stranded:
				<-changed
				continue
			case slow:
				time.Sleep(slowDelay)
				piece = rest[:min(len(rest), slowPiece)]
			}
			if _, err := to.Write(piece); err != nil {
				return
			}
			rest = rest[len(piece):]
		}
		if err != nil {
			return
		}
	}
}

// echo starts a server that records and answers what it receives.
func echo(t *testing.T) (address string, received <-chan string) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	words := make(chan string, 10)
	answer := func(conn net.Conn) {
		defer conn.Close()
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			words <- lines.Text()
			_, _ = fmt.Fprintln(conn, "re:"+lines.Text())
		}
	}
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return server.Addr().String(), words
}

// line is a client's connection.
type line struct {
	*testing.T
	net.Conn
}

func dial(t *testing.T, p *proxy) line {
	t.Helper()
	conn, err := net.Dial("tcp", p.address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return line{t, conn}
}

func (l line) say(word string) {
	l.Helper()
	_, err := fmt.Fprintln(l.Conn, word)
	require.NoError(l.T, err)
}

func (l line) hear(within time.Duration) (string, error) {
	l.Helper()
	require.NoError(l.T, l.SetReadDeadline(time.Now().Add(within)))
	text, err := bufio.NewReader(l.Conn).ReadString('\n') // nothing else is under way
	return strings.TrimSpace(text), err
}

func (l line) hears(want string) {
	l.Helper()
	word, err := l.hear(waitTimeout)
	require.NoError(l.T, err)
	require.Equal(l.T, want, word)
}

// TestProxy checks that each state of the network passes, delays or holds back what it should.
func TestProxy(t *testing.T) {
	address, received := echo(t)
	p := newProxy(t, "echo", address)
	conn := dial(t, p)
	for _, state := range []network{passing, slow} {
		p.become(state, true)
		conn.say("plain")
		require.Equal(t, "plain", <-received)
		conn.hears("re:plain")
	}
	for _, state := range []network{deafened, silent, muted} {
		p.become(state, true)
		conn.say("late")
		if state == muted {
			require.Equal(t, "late", <-received)
		}
		_, err := conn.hear(50 * time.Millisecond)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%s", state)
		require.Empty(t, received)
		fresh := dial(t, p) // is accepted
		p.become(passing, true)
		conn.hears("re:late")
		if state != muted {
			require.Equal(t, "late", <-received)
		}
		fresh.say("fresh")
		require.Equal(t, "fresh", <-received)
		fresh.hears("re:fresh")
	}
	p.become(stranded, true)
	conn.say("late")
	_, err := conn.hear(50 * time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	fresh := dial(t, p)
	fresh.say("fresh")
	require.Equal(t, "fresh", <-received)
	fresh.hears("re:fresh")
	p.become(passing, true)
	require.Equal(t, "late", <-received)
	conn.hears("re:late")
}

// TestProxyCuts checks that connections end when the network is cut, or when it passes again without what was held back.
func TestProxyCuts(t *testing.T) {
	address, received := echo(t)
	p := newProxy(t, "echo", address)
	conn := dial(t, p)
	p.become(silent, true)
	conn.say("lost")
	p.become(passing, false)
	_, err := conn.hear(waitTimeout)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is gone")
	require.Empty(t, received)

	conn = dial(t, p)
	p.become(cut, false)
	for _, c := range []line{conn, dial(t, p)} {
		_, err := c.hear(waitTimeout)
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is gone")
	}
	p.become(passing, false)
	conn = dial(t, p)
	conn.say("again")
	conn.hears("re:again")
}
