package main

import (
	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// shownSetting is a setting as `outboxie config --json` prints it.
type shownSetting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"`
}

func (p *program) configCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, without secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(p.stdout, shownSettings(c))
			}
			return c.Print(p.stdout)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func shownSettings(c config.Config) []shownSetting {
	var shown []shownSetting
	for _, s := range c.Settings() {
		shown = append(shown, shownSetting{string(s.Name), s.Value, string(s.Source)})
	}
	return shown
}
