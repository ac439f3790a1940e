package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
)

// needFree fails if one of the ports on loopback is taken, and says by whom, as far as this user may know.
func needFree(ctx context.Context, ports ...int) error {
	var problems []string
	for _, port := range ports {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		switch {
		case err == nil:
			_ = listener.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			problems = append(problems, fmt.Sprintf("port %d is taken by %s", port, owner(ctx, port)))
		default:
			problems = append(problems, fmt.Sprintf("port %d cannot be used (%v)", port, err))
		}
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, ", "))
}

// owners are commands that tell who listens on a port, and how to read what they say.
var owners = []struct {
	command string
	said    *regexp.Regexp
	who     string
}{
	{"docker ps --filter publish=%d --format {{.Names}}", regexp.MustCompile(`(.+)`), "the container $1"},
	{"lsof -nP -iTCP:%d -sTCP:LISTEN -Fpc", regexp.MustCompile(`(?m)^p(\d+)\nc(.+)$`), "$2, process $1"},
	{"ss -Hltnp sport = :%d", regexp.MustCompile(`\("([^"]+)",pid=(\d+)`), "$1, process $2"},
}

// owner says who listens on a port.
func owner(ctx context.Context, port int) string {
	for _, o := range owners {
		words := strings.Fields(fmt.Sprintf(o.command, port))
		said, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
		if match := o.said.FindSubmatchIndex(said); err == nil && match != nil {
			return string(o.said.Expand(nil, []byte(o.who), said, match))
		}
	}
	return "a process that this user may not see"
}
