package infra

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// configVariable makes the test binary a NATS server with that configuration file.
const configVariable = "OUTBOXIE_TEST_NATS_CONFIG"

// NATSProcess is a NATS server in its own process. A file configures it, as an operator would. A test may stop, freeze and kill the server.
// It ends with the test, or with the process of the test.
type NATSProcess struct {
	t      testing.TB
	config string // its file
	log    string // its file
	cmd    *exec.Cmd
	ended  chan struct{}
	stdin  interface{ Close() error }
}

// StartNATSProcess starts a server and returns when it listens. The configuration must not name a log file.
func StartNATSProcess(t testing.TB, config string) *NATSProcess {
	t.Helper()
	folder := t.TempDir()
	p := &NATSProcess{t: t, config: filepath.Join(folder, "nats.conf"), log: filepath.Join(folder, "nats.log")}
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if text, err := os.ReadFile(p.log); t.Failed() && err == nil {
			t.Logf("the end of the log of NATS, %s:\n%s", p.config, text[max(0, len(text)-4000):])
		}
	})
	p.Start()
	return p
}

// Start starts the server again. It returns when the server accepts connections; a cluster may not be ready yet. If the server ends
// instead, Start starts it once more, as a supervisor would.
func (p *NATSProcess) Start() {
	p.t.Helper()
	for attempt := 1; ; attempt++ {
		err := p.start()
		if err == nil {
			return
		}
		text, _ := os.ReadFile(p.log)
		report := fmt.Sprintf("NATS did not start (%v). The end of its log:\n%s", err, text[max(0, len(text)-1500):])
		if attempt == 2 {
			p.t.Fatal(report)
		}
		p.t.Log(report)
	}
}

func (p *NATSProcess) start() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), configVariable+"="+p.config)
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.cmd, p.stdin, p.ended = cmd, stdin, ended
	if strings.TrimSpace(line) != "ready" {
		p.Kill()
		return fmt.Errorf("NATS printed %q and exited with code %d", line, cmd.ProcessState.ExitCode())
	}
	return nil
}

// Stop ends the server in order.
func (p *NATSProcess) Stop() {
	_ = p.stdin.Close()
	<-p.ended
}

// Kill ends the server as a crash would, even if the server is frozen.
func (p *NATSProcess) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Signal sends a signal.
func (p *NATSProcess) Signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// natsIfAsked runs the server until it is killed, or its standard input closes.
func natsIfAsked() {
	config := os.Getenv(configVariable)
	if config == "" {
		return
	}
	if err := serveNATS(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveNATS(config string) error {
	options, err := natsserver.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	options.NoSigs = true
	server, err := natsserver.NewServer(options)
	if err != nil {
		return err
	}
	options.Logtime = true
	server.ConfigureLogger()
	server.Start()
	if !server.ReadyForConnections(waitTimeout) {
		return fmt.Errorf("NATS was not ready within %s", waitTimeout)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString(0) // standard input closes when the owner ends
	server.Shutdown()
	server.WaitForShutdown()
	return nil
}
