package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// long returns a step that takes duration, and notes its progress.
func long(duration time.Duration) Step {
	return Step{"Build", func(_ context.Context, note Note) (string, error) {
		note("compiling %s", strings.Repeat("x", 200))
		time.Sleep(duration)
		return "an image\nof 50 MB", nil
	}}
}

// TestPlainConsole checks that a console without a terminal prints the progress of a long step every ten seconds, and each result once.
func TestPlainConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := newConsole(&out)
		require.NoError(t, c.run(t.Context(), 1, long(25*time.Second)))
		failed := errors.New("no")
		err := c.run(t.Context(), 12, Step{"Start", func(context.Context, Note) (string, error) { return "not shown", failed }})
		require.ErrorIs(t, err, failed)
		x := strings.Repeat("x", 159-len(" 1  Build, 10 s: compiling "))
		require.Equal(t, ""+
			"…  1  Build, 10 s: compiling "+x+"…\n"+
			"…  1  Build, 20 s: compiling "+x+"…\n"+
			"✓  1  Build                                                     25.0 s\n"+
			"      an image\n"+
			"      of 50 MB\n"+
			"✗ 12  Start                                                      0.0 s\n", out.String())
	})
}

// TestTerminal checks that a terminal shows the step that runs, and replaces it by the result.
func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := &console{out: &out, terminal: true, colors: true, width: func() int { return 40 }, every: 100 * time.Millisecond}
		require.NoError(t, c.run(t.Context(), 1, long(120*time.Millisecond)))
		moving, rest, _ := strings.Cut(out.String(), "\r\x1b[2K\x1b[32m✓\x1b[0m ")
		frames := strings.Split(moving, "\r\x1b[2K")[1:]
		require.Equal(t, []string{"⠋  1  Build, 0 s", "⠙  1  Build, 0 s: compiling xxxxxxxxxx…"}, []string{frames[0][:len("⠋  1  Build, 0 s")], frames[1]})
		require.Equal(t, "\x1b[1m 1  Build                                                   \x1b[0m \x1b[2m  0.1 s\x1b[0m\n"+
			"      an image\n      of 50 MB\n", rest)
		for _, frame := range frames {
			require.Less(t, len([]rune(frame)), 40, "a line that wraps could not be taken back")
		}
	})
}

// TestRunAll checks that the steps run in order and stop at the first that fails.
func TestRunAll(t *testing.T) {
	var taken []string
	step := func(name string, err error) Step {
		return Step{name, func(context.Context, Note) (string, error) {
			taken = append(taken, name)
			return "", err
		}}
	}
	count, err := newConsole(&bytes.Buffer{}).runAll(t.Context(), []Step{step("a", nil), step("b", errors.New("no luck")), step("c", nil)})
	require.EqualError(t, err, `the demo failed at step 2, "b": no luck`)
	require.Equal(t, 2, count)
	require.Equal(t, []string{"a", "b"}, taken)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newConsole(&bytes.Buffer{}).runAll(ctx, []Step{step("a", ctx.Err())})
	require.EqualError(t, err, `the demo was interrupted at step 1, "a"`)
}
