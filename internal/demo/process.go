package demo

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// tiedVariable makes the program end when its standard input does.
const tiedVariable = "DEMO_TIED"

// EndWithDemo ties the process to the demo that started it: it is gone when the demo is, whatever ended that. Call it first
// thing in main. In every other process it does nothing.
func EndWithDemo() {
	if os.Getenv(tiedVariable) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
}

// process is one life of a member. What it logs is kept.
type process struct {
	name  string
	cmd   *exec.Cmd
	tie   io.Closer
	ended chan struct{}

	mu    sync.Mutex
	text  bytes.Buffer
	asked bool // its end was asked for
}

// launch starts the program.
func launch(name, program string, environment []string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Env = append(environment, tiedVariable+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which ends all of them in order
	var err error
	if p.tie, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is told by failure
		close(p.ended)
	}()
	return p, nil
}

// Write keeps what the process logs.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// failure is an error when the process has ended unasked.
func (p *process) failure() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return nil
	}
	return fmt.Errorf("%s ended by itself (%s); the end of its log:%s", p.name, p.cmd.ProcessState, lastLines(p.text.String(), 5))
}

// said is the word that follows text in the log, once it is there.
func (p *process) said(text string) (string, bool) {
	_, after, found := strings.Cut(p.log(), text)
	word, _, whole := strings.Cut(after, "\n")
	word, _, _ = strings.Cut(word, " ")
	return word, found && whole
}

func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	_ = p.cmd.Process.Signal(signal) // it may have ended already
}

// kill returns when the process is dead.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// lastLines is the end of text, each line after a line break.
func lastLines(text string, count int) string {
	var last string
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[max(0, len(lines)-count):] {
		if line != "" {
			last += "\n  " + line
		}
	}
	return last
}
