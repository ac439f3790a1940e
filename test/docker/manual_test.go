package docker_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestByHand checks that each command in the section "By hand" of docs/manual-test.md does what the section says.
func TestByHand(t *testing.T) {
	commands := byHand(t)
	needEngine(t)
	said := make(map[string]string) // the last answer to each command
	for _, text := range commands {
		answer, code := run(t, command(nil, "bash", "-o", "pipefail", "-c", text))
		require.Zero(t, code, text)
		said[text] = answer
	}
	for text, answer := range said {
		switch {
		case strings.HasPrefix(text, "curl "):
			require.Contains(t, answer, "HTTP/1.1 201 Created")
		case strings.Contains(text, "grep -c"):
			require.Equal(t, "2\n", answer, text)
		case strings.Contains(text, "Received order created event"):
			require.Regexp(t, `^subscriber(\d)-1 .* subscriber=subscriber\d order_id=.*\n$`, answer)
		case strings.Contains(text, "grep leader"):
			require.Regexp(t, `^app[23]-1 .* became leader instance=app[23] `, answer)
		}
	}
	require.Empty(t, succeed(t, "docker", "compose", "ps", "--all", "--quiet"), "the last step cleans up")
}

// byHand returns the commands of the section, and checks that the section has all steps in order.
func byHand(t *testing.T) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(root + "/docs/manual-test.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## By hand\n")
	require.True(t, found, "docs/manual-test.md has a section By hand")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		lines := strings.ReplaceAll(block[1], "\\\n", "\\\r") // a command goes on after a backslash
		for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
			commands = append(commands, strings.ReplaceAll(line, "\\\r", "\\\n"))
		}
	}
	steps := commands
	for _, step := range []string{
		"docker compose down", "make docker-build", "docker compose up", "curl .*:8081/orders", "sleep",
		"subscriber1 .*Received order created event", "subscriber2 .*Received order created event", "subscriber3 .*Received order created event",
		"docker compose stop app1", "sleep", "app2 app3 .*leader", "curl .*:8082/orders", "sleep",
		"subscriber1 .*-c .*Received", "subscriber2 .*-c .*Received", "subscriber3 .*-c .*Received", "docker compose down",
	} {
		require.NotEmpty(t, steps, "By hand lacks the step %q", step)
		require.Regexp(t, step, steps[0])
		steps = steps[1:]
	}
	require.Empty(t, steps)
	return commands
}
