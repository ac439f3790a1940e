package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *program) healthcheckCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running instance whether it is ready",
		Long: "Ask the instance whose admin listener is at ADMIN_ADDR whether it is ready. Prints its checks; exits with 1 if it is not.\n" +
			"The answer says why a check fails if a token of the instance can be read: in ADMIN_TOKEN, where the instance keeps it, or in\n" +
			"ADMIN_READ_TOKEN.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			token, err := c.ReadToken()
			if err != nil || token == config.Off {
				token, _ = c.ReadOnlyToken("") // if there is none, /readyz answers without a token
			}
			status, answer, err := askReady(cmd.Context(), c.HTTP.AdminAddr, string(token))
			if err != nil {
				return fmt.Errorf("no instance answers: %w. Does one run, and is its admin listener at ADMIN_ADDR (--admin-addr)?", err)
			}
			return p.showReadiness(c.HTTP.AdminAddr, status, answer, asJSON)
		},
	}
	config.AddFlags(cmd.Flags(), config.AdminAddr)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of the instance, which is JSON")
	return cmd
}

// askReady returns the answer of an instance at /readyz.
func askReady(ctx context.Context, addr, token string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1" // the listener is on every address, so on loopback too
	}
	url := "http://" + net.JoinHostPort(host, port) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a proxy, which would see the token
	answer, err := direct.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, body, err
}

// showReadiness prints an answer of /readyz. It returns an error if the instance is not ready.
func (p *program) showReadiness(addr string, status int, body []byte, asJSON bool) error {
	var report httpapi.Readiness
	if err := json.Unmarshal(body, &report); err != nil || report.Status == "" {
		return fmt.Errorf("what answers at %s is no instance: it answered %d %s", addr, status, http.StatusText(status))
	}
	if err := p.printReadiness(addr, body, report, asJSON); err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("the instance at %s is not ready", addr)
	}
	return nil
}

func (p *program) printReadiness(addr string, body []byte, report httpapi.Readiness, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(p.stdout, "%s\n", body)
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "The instance at %s is %s.\n", addr, report.Status)
	for _, check := range report.Checks {
		fmt.Fprintf(table, "%s\t%s", check.Name, check.Status)
		if check.Reason != nil {
			fmt.Fprintf(table, ": %s", *check.Reason)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
