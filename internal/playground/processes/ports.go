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

// NeedFree returns an error if one of the ports on loopback is taken. The error names the process that has the port, if this user may know
// it.
func NeedFree(ctx context.Context, ports ...int) error {
	var problems []string
	for _, port := range ports {
		if _, err := FreeAddress(ctx, fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, ", "))
}

// FreeAddress returns the address, with a free port in the place of port 0. It returns an error if a process already listens there. The error
// names the process, if this user may know it.
func FreeAddress(ctx context.Context, address string) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		defer listener.Close()
		return listener.Addr().String(), nil
	}
	_, port, _ := net.SplitHostPort(address) // if the address cannot be parsed, err already says so
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("port %s is taken by %s", port, owner(ctx, port))
	}
	return "", fmt.Errorf("port %s cannot be used (%w)", port, err)
}

// owners has the commands that name the process that listens on a port, and how to read their output.
var owners = []struct {
	command string
	said    *regexp.Regexp
	who     string
}{
	{"docker ps --filter publish=%s --format {{.Names}}", regexp.MustCompile(`(.+)`), "the container $1"},
	{"lsof -nP -iTCP:%s -sTCP:LISTEN -Fpc", regexp.MustCompile(`(?m)^p(\d+)\nc(.+)$`), "$2, process $1"},
	{"ss -Hltnp sport = :%s", regexp.MustCompile(`\("([^"]+)",pid=(\d+)`), "$1, process $2"},
}

// owner names the process that listens on a port.
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
