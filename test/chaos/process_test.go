package chaos_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// waitTimeout bounds every wait that is not a check, for example for a start or a stop.
const waitTimeout = 30 * time.Second

// member is a process of the program that is started again and again. All its runs write to one log file.
type member struct {
	name    string
	program string
	args    []string
	env     []string
	folder  string
	report  func(format string, v ...any)

	api            string // where it answers requests, if it does
	postgres, nats *proxy

	mu    sync.Mutex
	cmd   *exec.Cmd
	began time.Time
	asked bool // the test ended it
	// gaveUp reports that the process ended because it could not use the database for 30 s after its start, as documented. This happens on a
	// busy machine. Then the test has to start the process again.
	gaveUp bool
	ended  chan struct{}
}

// start begins the next run.
func (m *member) start() error {
	file, err := os.OpenFile(filepath.Join(m.folder, m.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, _ = fmt.Fprintf(file, "--- %s starts\n", time.Now().Format(time.StampMilli))
	cmd, ended := exec.Command(m.program, m.args...), make(chan struct{})
	cmd.Env, cmd.Dir = append(os.Environ(), m.env...), m.folder
	cmd.Stdout, cmd.Stderr = file, file
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	m.cmd, m.began, m.asked, m.gaveUp, m.ended = cmd, time.Now(), false, false, ended
	go func() {
		err := cmd.Wait()
		m.mu.Lock()
		asked := m.asked
		gaveUp := !asked && cmd.ProcessState.ExitCode() == 1 && m.waitedForDatabase()
		m.gaveUp = gaveUp
		m.mu.Unlock()
		if !asked && !gaveUp {
			m.report("%s ended by itself: %v", m.name, err)
		}
		close(ended)
	}()
	return nil
}

// waitedForDatabase reports whether the last line of the log says that the process gave up waiting for the database.
func (m *member) waitedForDatabase() bool {
	text, err := os.ReadFile(filepath.Join(m.folder, m.name+".log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return err == nil && strings.HasPrefix(lines[len(lines)-1], "outboxie: prepare the database")
}

// restartIfGaveUp starts the process again if it gave up.
func (m *member) restartIfGaveUp() error {
	m.mu.Lock()
	gaveUp := m.gaveUp
	m.mu.Unlock()
	if !gaveUp {
		return nil
	}
	return m.start()
}

// signal sends a signal. end reports that the signal is meant to end the process.
func (m *member) signal(signal syscall.Signal, end bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return // it never ran
	}
	m.asked = m.asked || end
	_ = m.cmd.Process.Signal(signal) // if the process has ended by itself, start has reported that
}

// kill ends it with SIGKILL, if it runs.
func (m *member) kill() {
	m.signal(syscall.SIGKILL, true)
	if m.ended != nil {
		<-m.ended
	}
}

// stop sends SIGTERM and waits for the end. It reports a problem if the process does not end, or fails. A process that does not handle signals
// yet may end by the signal.
func (m *member) stop() {
	m.signal(syscall.SIGTERM, true)
	select {
	case <-m.ended:
		status, _ := m.cmd.ProcessState.Sys().(syscall.WaitStatus)
		early := status.Signaled() && status.Signal() == syscall.SIGTERM && time.Since(m.began) < waitTimeout // on a busy machine
		if code := m.cmd.ProcessState.ExitCode(); code != 0 && !early {
			m.report("%s ended with exit code %d after SIGTERM", m.name, code)
		}
	case <-time.After(waitTimeout):
		m.report("%s did not stop within %s after SIGTERM", m.name, waitTimeout)
		m.kill()
	}
}

// brokerVariable makes the test binary a NATS server, which can be killed without the test.
const brokerVariable = "CHAOS_NATS"

// brokerIfAsked runs the server until it is killed or its owner is gone.
func brokerIfAsked() {
	encoded := os.Getenv(brokerVariable)
	if encoded == "" {
		return
	}
	var options embedded.NATSOptions
	if err := json.Unmarshal([]byte(encoded), &options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	options.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	server, err := embedded.StartNATS(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString(0) // ends with the owner
	server.Stop()
	os.Exit(0)
}

// broker is a NATS server in a process of its own.
type broker struct {
	folder string // of the logs
	store  string
	port   int

	cmd *exec.Cmd
}

func (b *broker) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", b.port) }

// start returns when the server is ready.
func (b *broker) start() error {
	options, err := json.Marshal(embedded.NATSOptions{StoreDir: b.store, Port: b.port, Open: true})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(b.folder, "nats.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, _ = fmt.Fprintf(file, "--- %s starts\n", time.Now().Format(time.StampMilli))
	program, err := os.Executable()
	if err != nil {
		return err
	}
	b.cmd = exec.Command(program)
	b.cmd.Env, b.cmd.Stderr = append(os.Environ(), brokerVariable+"="+string(options)), file
	if _, err := b.cmd.StdinPipe(); err != nil { // closes when the test ends
		return err
	}
	said, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		b.kill()
		return fmt.Errorf("NATS did not start (%w): see %s", err, file.Name())
	}
	return nil
}

// kill ends it with SIGKILL.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

// copyStore copies the store of the stopped server.
func (b *broker) copyStore() (kept string, err error) {
	kept = b.store + "-old"
	if err := os.RemoveAll(kept); err != nil {
		return "", err
	}
	return kept, os.CopyFS(kept, os.DirFS(b.store))
}

// rollBack replaces the store of the stopped server by an older copy.
func (b *broker) rollBack(kept string) error {
	if err := os.RemoveAll(b.store); err != nil {
		return err
	}
	return os.Rename(kept, b.store)
}
