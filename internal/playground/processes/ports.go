package processes

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

// NeedFree fails if one of the ports on loopback is taken, and says by whom, as far as this user may know.
func NeedFree(ctx context.Context, ports ...int) error {
	addresses := make([]string, len(ports))
	for i, port := range ports {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return NeedFreeAddresses(ctx, addresses...)
}

// NeedFreeAddresses is like NeedFree, for addresses with a host and a port.
func NeedFreeAddresses(ctx context.Context, addresses ...string) error {
	var problems []string
	for _, address := range addresses {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		_, port, _ := net.SplitHostPort(address)
		switch {
		case err == nil:
			_ = listener.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			problems = append(problems, fmt.Sprintf("port %s is taken by %s", port, owner(ctx, port)))
		default:
			problems = append(problems, fmt.Sprintf("port %s cannot be used (%v)", port, err))
		}
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, ", "))
}

// FreePorts returns ports on loopback that nobody listened on a moment ago, each another one.
func FreePorts(ctx context.Context, count int) (ports []int, err error) {
	for range count {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()                                     // after all others are bound, so that each port is another one
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port) //nolint:errcheck // a TCP listener's address
	}
	return ports, nil
}

// owners are commands that tell who listens on a port, and how to read what they say.
var owners = []struct {
	command string
	said    *regexp.Regexp
	who     string
}{
	{"docker ps --filter publish=%s --format {{.Names}}", regexp.MustCompile(`(.+)`), "the container $1"},
	{"lsof -nP -iTCP:%s -sTCP:LISTEN -Fpc", regexp.MustCompile(`(?m)^p(\d+)\nc(.+)$`), "$2, process $1"},
	{"ss -Hltnp sport = :%s", regexp.MustCompile(`\("([^"]+)",pid=(\d+)`), "$1, process $2"},
}

// owner says who listens on a port.
func owner(ctx context.Context, port string) string {
	for _, o := range owners {
		words := strings.Fields(fmt.Sprintf(o.command, port))
		said, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
		if match := o.said.FindSubmatchIndex(said); err == nil && match != nil {
			return string(o.said.Expand(nil, []byte(o.who), said, match))
		}
	}
	return "a process that this user may not see"
}
