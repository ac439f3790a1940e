// Package processes runs the program as child processes. A child process ends when the process that started it ends. Start starts a child.
// Callers observe it from outside, by its exit code, its log and its probes.
package processes

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long Stop waits for processes to end before it kills them.
const stopTimeout = 10 * time.Second

// Process is a child process.
type Process struct {
	name  string
	cmd   *exec.Cmd // runs the program tied to this process
	tie   io.Closer
	ended chan struct{}

	mu    sync.Mutex
	text  bytes.Buffer
	asked bool // Kill or Stop has asked for its end
}

// Options says how to start a process.
type Options struct {
	Name        string // the name in errors
	Program     string // the program's file
	Args        []string
	Environment []string  // the whole environment
	Out         io.Writer // gets what the process prints, instead of Log; nil: Log keeps all of it
}

// Start starts a program. The program ends when this process ends for any reason, or by Kill or Stop.
func Start(options Options) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{
		name: options.Name, cmd: exec.Command(self, append([]string{tiedCommand, options.Program}, options.Args...)...),
		ended: make(chan struct{}),
	}
	p.cmd.Env = options.Environment
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if options.Out != nil {
		p.cmd.Stdout, p.cmd.Stderr = options.Out, options.Out
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches only this process, which then stops its children
	if p.tie, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // Failure reports how it ended
		close(p.ended)
	}()
	return p, nil
}

// Write keeps what the process prints.
func (p *Process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

// Log returns what the process has printed so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// LoggedAfter returns the word that follows text in the log. It reports false if the log does not have text yet.
func (p *Process) LoggedAfter(text string) (string, bool) {
	_, after, found := strings.Cut(p.Log(), text)
	word, _, whole := strings.Cut(after, "\n")
	word, _, _ = strings.Cut(word, " ")
	return word, found && whole
}

// Ended returns a channel that is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// EndedError reports that a process ended although nobody asked for its end.
type EndedError struct {
	Code  int // its exit code
	words string
}

// Error names the process.
func (e *EndedError) Error() string { return e.words }

// Failure returns an EndedError if the process has ended although nobody asked for its end.
func (p *Process) Failure() error {
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
	end := "its log says why"
	if last := LastLines(p.text.String(), 5); last != "" {
		end = "the end of its log:" + last
	}
	return &EndedError{p.cmd.ProcessState.ExitCode(), fmt.Sprintf("%s ended by itself (%s); %s", p.name, p.cmd.ProcessState, end)}
}

// signal sends a signal to the program, and to the process that ties the program to this one.
func (p *Process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	_ = syscall.Kill(-p.cmd.Process.Pid, signal) // it may have ended already
}

// Kill ends the process without a warning, and returns when it is dead.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// Stop asks all processes to end at the same time. It kills those that need longer than ten seconds.
func Stop(processes ...*Process) {
	for _, p := range processes {
		p.signal(syscall.SIGTERM)
	}
	end := time.After(stopTimeout)
	for _, p := range processes {
		select {
		case <-p.ended:
		case <-end:
			for _, p := range processes {
				p.Kill()
			}
		}
	}
}

// LastLines returns the last lines of text, with a line break before each line.
func LastLines(text string, count int) string {
	var last string
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[max(0, len(lines)-count):] {
		if line != "" {
			last += "\n  " + line
		}
	}
	return last
}
