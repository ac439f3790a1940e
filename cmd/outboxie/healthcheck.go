package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *program) healthcheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running instance whether it is ready",
		Long: "Ask the instance whose admin listener is at ADMIN_ADDR whether it is ready. Prints its answer; exits with 1 if it is not.\n" +
			"The answer says why a check fails if the instance's token can be read: in ADMIN_TOKEN, or where the instance keeps it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			token, err := c.ReadToken()
			if err != nil || token == config.Off {
				token = "" // /readyz answers without a token
			}
			return askReady(cmd.Context(), c.HTTP.AdminAddr, string(token), p.stdout)
		},
	}
	config.AddFlags(cmd.Flags(), config.AdminAddr)
	return cmd
}

func askReady(ctx context.Context, addr, token string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1" // the listener is on every address, so on loopback too
	}
	url := "http://" + net.JoinHostPort(host, port) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a proxy, which would see the token
	answer, err := direct.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(out, io.LimitReader(answer.Body, 1<<20)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return nil
}
