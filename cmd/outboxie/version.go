package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the build: go build -ldflags "-X main.version=v1.2.3".
var version string

func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// builtVersion is what `outboxie version --json` prints.
type builtVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // the commit that was built, if the build knew it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func builtFrom() builtVersion {
	built := builtVersion{Version: release(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				built.Revision = setting.Value
			}
		}
	}
	return built
}

func (p *program) versionCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p.configured = true
			if asJSON {
				return printJSON(p.stdout, builtFrom())
			}
			_, err := fmt.Fprintln(p.stdout, "outboxie", release())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the commit, the version of Go and the platform")
	return cmd
}
