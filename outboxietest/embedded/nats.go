package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// NATSOptions says where the server keeps its streams and where it listens.
type NATSOptions struct {
	StoreDir   string       // a folder for this server only; made if missing; streams survive restarts
	Port       int          // on 127.0.0.1; 0 picks a free one
	MaxPayload int          // the largest message in bytes; 0: NATS' default, 1 MiB
	Open       bool         // every user of this machine may connect without a password; for tests
	Logger     *slog.Logger `json:"-"`
}

// NATS is a running server with JetStream, inside this process. Every acknowledged message is on disk.
type NATS struct {
	server   *natsserver.Server
	password string // empty: clients need none
	lock     *os.File
	port     int
	stop     sync.Once
}

// natsStartTimeout bounds a start. It is long, because the recovery of large streams takes time.
const natsStartTimeout = 30 * time.Second

// StartNATS starts a server. It returns when the server accepts connections and JetStream is ready, normally after milliseconds. The server
// listens on loopback, so other processes of this machine can connect. They need the password, which is random. The password is stored in
// StoreDir, where only the owner can read it.
func StartNATS(opts NATSOptions) (*NATS, error) {
	if opts.StoreDir == "" {
		return nil, errors.New("embedded NATS needs a folder for its streams")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if err := os.MkdirAll(opts.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of NATS: %w", err)
	}
	lock, err := lockNATS(opts.StoreDir)
	if err != nil {
		return nil, err
	}
	n := &NATS{lock: lock}
	if err := n.start(opts); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *NATS) start(opts NATSOptions) error {
	// If the port is taken, the server itself only logs that, and the start ends with a timeout. So the port is tried first.
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", max(opts.Port, 0)))
	if err != nil {
		return fmt.Errorf("NATS cannot listen on port %d: %w", opts.Port, err)
	}
	_ = listener.Close()
	port := opts.Port
	if port <= 0 {
		port = natsserver.RANDOM_PORT
	}
	options := &natsserver.Options{
		ServerName: "outboxie",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   opts.StoreDir,
		SyncAlways: true,
		MaxPayload: int32(opts.MaxPayload),
		NoSigs:     true, // the application handles signals
	}
	if !opts.Open {
		if n.password, err = natsPassword(opts.StoreDir); err != nil {
			return err
		}
		options.CustomClientAuthentication = passwordCheck(n.password)
	}
	if n.server, err = natsserver.NewServer(options); err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	logger := &natsLog{logger: opts.Logger.With("component", "nats")}
	n.server.SetLoggerV2(logger, false, false, false)
	n.server.Start()
	for deadline := time.Now().Add(natsStartTimeout); ; {
		if n.server.ReadyForConnections(50*time.Millisecond) && n.server.JetStreamEnabled() {
			n.port = n.server.Addr().(*net.TCPAddr).Port
			return nil
		}
		if reason := logger.fatal(); reason != "" {
			return errors.New("start NATS: " + reason)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("NATS was not ready within %s", natsStartTimeout)
		}
	}
}

// URL returns the address for clients. It holds the password, unless the server is open.
func (n *NATS) URL() string {
	if n.password == "" {
		return fmt.Sprintf("nats://127.0.0.1:%d", n.port)
	}
	return fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", natsUser, n.password, n.port)
}

// Port returns the port on 127.0.0.1 that the server listens on.
func (n *NATS) Port() int { return n.port }

// Stop disconnects all clients, closes the streams, and returns when the server has ended. Further calls wait for the first call.
func (n *NATS) Stop() {
	n.stop.Do(func() {
		if n.server != nil {
			n.server.Shutdown()
			n.server.WaitForShutdown()
		}
		_ = n.lock.Close()
	})
}

// natsLog passes the server's log on. Notices become debug lines.
type natsLog struct {
	logger *slog.Logger

	mu     sync.Mutex
	reason string // the first fatal problem: why the server cannot start
}

// Noticef implements natsserver.Logger.
func (l *natsLog) Noticef(format string, v ...any) { l.logger.Debug(fmt.Sprintf(format, v...)) }

// Warnf implements natsserver.Logger.
func (l *natsLog) Warnf(format string, v ...any) { l.logger.Warn(fmt.Sprintf(format, v...)) }

// Errorf implements natsserver.Logger.
func (l *natsLog) Errorf(format string, v ...any) { l.logger.Error(fmt.Sprintf(format, v...)) }

// Debugf implements natsserver.Logger.
func (l *natsLog) Debugf(format string, v ...any) { l.logger.Debug(fmt.Sprintf(format, v...)) }

// Tracef implements natsserver.Logger.
func (l *natsLog) Tracef(format string, v ...any) { l.logger.Debug(fmt.Sprintf(format, v...)) }

// Fatalf implements natsserver.Logger. It does not end the process: StartNATS returns the reason.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == "" {
		l.reason = fmt.Sprintf(format, v...)
	}
}

func (l *natsLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}
