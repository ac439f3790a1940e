package docker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// composeFile is what the tests read of a compose file. The decoder resolves its anchors.
type composeFile struct {
	Services map[string]composeService
	Secrets  map[string]struct{ File string }
	Volumes  map[string]any
}

type composeService struct {
	Image, User string
	Environment map[string]string
	Profiles    []string
	CapAdd      []string `yaml:"cap_add"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	ReadOnly    bool     `yaml:"read_only"`
	Ports       []string
	Volumes     []string
	Secrets     []string
	Restart     string
	Deploy      struct {
		Resources struct {
			Limits struct{ CPUs, Memory string }
		}
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker", file))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), file)
}

// composed returns the services, secrets and volumes of both compose files.
func composed(t *testing.T) composeFile {
	t.Helper()
	var infrastructure, distributed composeFile
	readYAML(t, "compose.yaml", &infrastructure)
	readYAML(t, "compose.distributed.yaml", &distributed)
	for name, service := range distributed.Services {
		infrastructure.Services[name] = service
	}
	for name, secret := range distributed.Secrets {
		infrastructure.Secrets[name] = secret
	}
	return infrastructure
}

// TestContainersHaveFewRights checks that no container has a capability, gains privileges or writes to its root file system, that each has
// limits, and that every published port is on loopback. Postgres may take over files and become another user.
func TestContainersHaveFewRights(t *testing.T) {
	all := composed(t)
	require.Len(t, all.Services, 11)
	for name, service := range all.Services {
		require.Equal(t, []string{"ALL"}, service.CapDrop, name)
		if name == "postgres" {
			require.Equal(t, []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}, service.CapAdd)
		} else {
			require.Empty(t, service.CapAdd, name)
		}
		require.Equal(t, []string{"no-new-privileges:true"}, service.SecurityOpt, name)
		require.True(t, service.ReadOnly, name)
		require.Equal(t, "unless-stopped", service.Restart, name)
		require.NotEmpty(t, service.Deploy.Resources.Limits.Memory, name)
		require.NotEmpty(t, service.Deploy.Resources.Limits.CPUs, name)
		for _, port := range service.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s publishes %s", name, port)
		}
		require.NotContains(t, service.Image+":", ":latest:", name)
	}
}

// keySet is the file with the public key of tokens, from the folder of the compose files. `make docker-build` makes it.
const keySet = "../.outboxie/auth-jwks.json"

// TestContainersAskForTokens checks that each process with a published API accepts the tokens of `outboxie token` and no request without one:
// its settings are those that the help of the command names, with the file of the key that `make docker-build` and `make infra-up` make.
func TestContainersAskForTokens(t *testing.T) {
	all, asking := composed(t), 0
	help, err := infra.Outboxie(t, nil, "token", "--help")
	require.NoError(t, err)
	require.Equal(t, keySet, all.Secrets["auth-jwks"].File)
	for name, service := range all.Services {
		require.NotContains(t, service.Environment, "AUTH", name)
		if !slices.ContainsFunc(service.Ports, func(port string) bool { return strings.HasSuffix(port, ":8080") }) {
			require.NotContains(t, service.Secrets, "auth-jwks", name)
			continue
		}
		asking++
		require.Contains(t, help, "AUTH_ISSUER="+service.Environment["AUTH_ISSUER"]+", AUTH_AUDIENCE="+service.Environment["AUTH_AUDIENCE"]+"\n", name)
		require.Contains(t, help, "AUTH_JWKS_FILE="+strings.TrimPrefix(keySet, "../"), name)
		require.Equal(t, "/run/secrets/auth-jwks", service.Environment["AUTH_JWKS_FILE"], name)
		require.Contains(t, service.Secrets, "auth-jwks", name)
	}
	require.Equal(t, len(instances), asking)

	folder := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(folder, "docker"), os.DirFS(filepath.Join(root, "docker"))))
	said, code := run(t, command([]string{"BINARY=" + infra.Binary(t), "AUTH_ISSUER=other"}, "sh", "-c", "umask 077; "+filepath.Join(folder, "docker/infra.sh")+" key"))
	require.Zero(t, code, said)
	info, err := os.Stat(filepath.Join(folder, "docker", keySet))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "containers read it as another user")
}

// TestPasswordsAreSecrets checks that no environment has a password, that every secret that a service names has a file in the repository, or is the
// key that is made, and that the two files of the database's password agree.
func TestPasswordsAreSecrets(t *testing.T) {
	all := composed(t)
	password := regexp.MustCompile(`://[^/@]*:[^/@]+@`)
	for name, service := range all.Services {
		for variable, value := range service.Environment {
			require.NotRegexp(t, password, value, "%s of %s", variable, name)
			require.False(t, strings.HasSuffix(variable, "PASSWORD"), "%s of %s", variable, name)
		}
		for _, secret := range service.Secrets {
			if all.Secrets[secret].File == keySet {
				continue
			}
			require.FileExists(t, filepath.Join(root, "docker", all.Secrets[secret].File), "%s of %s", secret, name)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "docker", all.Secrets["postgres-password"].File))
	require.NoError(t, err)
	lines, err := os.ReadFile(filepath.Join(root, "docker", all.Secrets["pgpass"].File))
	require.NoError(t, err)
	require.Contains(t, string(lines), "\npostgres:5432:outboxie:outboxie:"+string(text))
}

// TestObservedContainers checks that the profile observe is only Prometheus and Grafana, that Prometheus scrapes every process with the
// token that may only read, and that Grafana gets the dashboard and a source for it.
func TestObservedContainers(t *testing.T) {
	all := composed(t)
	var watching, watched []string
	for name, service := range all.Services {
		if slices.Contains(service.Profiles, "observe") {
			watching = append(watching, name)
		}
		if _, ok := service.Environment["ADMIN_TOKEN_FILE"]; ok {
			watched = append(watched, name+":8090")
			require.Equal(t, "0.0.0.0:8090", service.Environment["ADMIN_ADDR"], name)
			require.Contains(t, strings.Split(service.Environment["ADMIN_ALLOWED_HOSTS"], ","), name)
			require.Contains(t, service.Volumes, "token:"+filepath.Dir(service.Environment["ADMIN_TOKEN_FILE"]), name)
			require.Equal(t, "/run/secrets/admin-read-token", service.Environment["ADMIN_READ_TOKEN_FILE"], name)
			require.Contains(t, service.Secrets, "admin-read-token", name)
		}
	}
	require.ElementsMatch(t, []string{"prometheus", "grafana"}, watching)

	var scraping struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			Authorization struct {
				File string `yaml:"credentials_file"`
			}
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "prometheus/compose.yml", &scraping)
	require.ElementsMatch(t, watched, scraping.ScrapeConfigs[0].StaticConfigs[0].Targets)
	require.Equal(t, "/run/secrets/admin-read-token", scraping.ScrapeConfigs[0].Authorization.File)
	require.Equal(t, []string{"admin-read-token"}, all.Services["prometheus"].Secrets)
	require.Equal(t, []string{"./prometheus:/etc/prometheus:ro"}, all.Services["prometheus"].Volumes, "it has no token that may do more")
	require.FileExists(t, filepath.Join(root, "docker/prometheus", scraping.RuleFiles[0]))

	requireProvisioned(t, all.Services["grafana"])
}

func requireProvisioned(t *testing.T, grafana composeService) {
	t.Helper()
	var sources struct {
		Datasources []struct{ Type, URL string }
	}
	readYAML(t, "grafana/provisioning/datasources/prometheus.yaml", &sources)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "grafana/provisioning/dashboards/outboxie.yaml", &dashboards)
	shown := dashboards.Providers[0].Options.Path + "/outboxie.json"
	require.Contains(t, grafana.Volumes, "./grafana/outboxie.json:"+shown+":ro")
	require.Equal(t, shown, grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
	text, err := os.ReadFile(filepath.Join(root, "docker/grafana/outboxie.json"))
	require.NoError(t, err)
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.Equal(t, "datasource", dashboard.Templating.List[0].Type)
	require.Equal(t, sources.Datasources[0].Type, dashboard.Templating.List[0].Query, "the dashboard takes the default source of this type")
}
