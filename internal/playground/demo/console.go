package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// console shows steps while they run. On a terminal it uses colors and a moving line. Elsewhere it prints plain lines, and one more line
// every ten seconds of a long step.
type console struct {
	out      io.Writer
	terminal bool
	colors   bool
	width    func() int // of the terminal
	every    time.Duration
}

const (
	defaultWidth = 80
	nameWidth    = 60
	indent       = "      "
)

func newConsole(out io.Writer) *console {
	c := &console{out: out, every: 10 * time.Second, width: func() int { return defaultWidth }}
	file, is := out.(*os.File)
	if !is || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return c
	}
	c.terminal, c.every, c.colors = true, 100*time.Millisecond, os.Getenv("NO_COLOR") == ""
	c.width = func() int {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
		return defaultWidth
	}
	return c
}

const (
	green = "32"
	red   = "31"
	faint = "2"
	bold  = "1"
)

func (c *console) color(code, text string) string {
	if !c.colors {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (c *console) say(format string, v ...any) { _, _ = fmt.Fprintf(c.out, format+"\n", v...) }

// run runs a step, and shows its progress and its result.
func (c *console) run(ctx context.Context, number int, step Step) error {
	p := &progress{console: c, title: fmt.Sprintf("%2d  %s", number, step.Name), began: time.Now()}
	stop := p.start()
	said, err := step.Do(ctx, p.note)
	stop()
	took := time.Since(p.began)
	mark := c.color(green, "✓")
	if err != nil {
		mark, said = c.color(red, "✗"), ""
	}
	c.say("%s %s %s", mark, c.color(bold, fmt.Sprintf("%-*s", nameWidth, p.title)), c.color(faint, fmt.Sprintf("%5.1f s", took.Seconds())))
	for line := range strings.Lines(said) {
		c.say("%s%s", indent, strings.TrimRight(line, "\n"))
	}
	return err
}

// progress is the progress of a running step.
type progress struct {
	console *console
	title   string
	began   time.Time

	mu    sync.Mutex
	noted string
}

func (p *progress) note(format string, v ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noted = fmt.Sprintf(format, v...)
}

// start shows the progress until stop is called. stop removes the moving line.
func (p *progress) start() (stop func()) {
	ended := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		tick := time.NewTicker(p.console.every)
		defer tick.Stop()
		for turn := 0; ; turn++ {
			if p.console.terminal {
				p.show(turn)
			}
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			if !p.console.terminal {
				p.console.say("… %s", cut(p.line(), 2*defaultWidth))
			}
		}
	})
	return func() {
		close(ended)
		showing.Wait()
		if p.console.terminal {
			_, _ = io.WriteString(p.console.out, "\r\x1b[2K")
		}
	}
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

func (p *progress) show(turn int) {
	line := cut(p.line(), p.console.width()-3) // minus spinner, blank, and the last column, in which a line would wrap
	_, _ = fmt.Fprintf(p.console.out, "\r\x1b[2K%c %s", spinner[turn%len(spinner)], line)
}

func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%s, %d s", p.title, int(time.Since(p.began).Seconds()))
	if p.noted != "" {
		line += ": " + p.noted
	}
	return line
}

// cut shortens a line to width characters.
func cut(line string, width int) string {
	if width = max(width, 1); utf8.RuneCountInString(line) > width {
		line = string([]rune(line)[:width-1]) + "…"
	}
	return line
}
