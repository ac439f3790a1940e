package config

import (
	"net/url"
	"slices"
	"strings"
)

// maskedValue replaces a hidden value in a text that is shown.
const maskedValue = "xxxxx"

// harmlessParameters are the parameters of a URL's query whose values may be shown. The values of all others are hidden, because an unknown
// parameter may hold a secret.
var harmlessParameters = []string{
	"application_name", "channel_binding", "client_encoding", "connect_timeout", "database", "datestyle", "dbname",
	"default_query_exec_mode", "default_transaction_read_only", "fallback_application_name", "gssencmode", "host", "hostaddr",
	"idle_in_transaction_session_timeout", "intervalstyle", "keepalives", "keepalives_count", "keepalives_idle",
	"keepalives_interval", "krbsrvname", "load_balance_hosts", "lock_timeout", "max_protocol_version", "min_protocol_version",
	"pool_max_conns", "port", "require_auth", "role", "search_path", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert",
	"sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "statement_timeout", "target_session_attrs",
	"tcp_user_timeout", "timezone", "user",
}

// redactedQuery hides the values of all parameters that are not known to be harmless.
func redactedQuery(query url.Values) (shown url.Values, changed bool) {
	shown = url.Values{}
	for name, values := range query {
		if slices.Contains(harmlessParameters, strings.ToLower(name)) {
			shown[name] = values
			continue
		}
		shown.Set(name, maskedValue)
		changed = true
	}
	return shown, changed
}

// harmlessTelemetry has the ends of the names of OTEL_* variables whose values may be shown: names, numbers, choices and files. A value
// with an @ or a line break is hidden in any case.
var harmlessTelemetry = []string{
	"OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_LOG_LEVEL", "OTEL_PROPAGATORS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	"_EXPORTER", "_PROTOCOL", "_TIMEOUT", "_COMPRESSION", "_INSECURE", "_CERTIFICATE", "_CLIENT_KEY", "_DELAY", "_SIZE", "_INTERVAL",
	"_LIMIT", "_TEMPORALITY_PREFERENCE", "_HISTOGRAM_AGGREGATION", "_EXEMPLAR_FILTER", "OTEL_EXPORTER_PROMETHEUS_HOST",
	"OTEL_EXPORTER_PROMETHEUS_PORT",
}

// harmlessAttributes are the resource attributes whose values may be shown.
var harmlessAttributes = []string{
	"service.name", "service.namespace", "service.version", "service.instance.id", "deployment.environment",
	"deployment.environment.name", "host.name", "container.name", "cloud.provider", "cloud.region", "cloud.availability_zone",
	"k8s.cluster.name", "k8s.namespace.name", "k8s.node.name", "k8s.pod.name", "k8s.deployment.name", "k8s.container.name",
}

// shownTelemetry returns the value of an OTEL_* variable with secrets hidden.
func shownTelemetry(name, value string) string {
	ends := func(end string) bool { return strings.HasSuffix(name, end) }
	switch {
	case slices.ContainsFunc(harmlessTelemetry, ends) && !strings.ContainsAny(value, "@\r\n"):
		return value
	case ends("_ENDPOINT"):
		return URL(value).String()
	case ends("_RESOURCE_ATTRIBUTES"):
		return shownAttributes(value)
	}
	return hidden
}

// shownAttributes returns a list such as team=a,service.version=2. It hides the values that are not known to be harmless.
func shownAttributes(list string) string {
	parts := strings.Split(list, ",")
	for i, part := range parts {
		name, _, isPair := strings.Cut(part, "=")
		switch {
		case !isPair:
			return hidden
		case !slices.Contains(harmlessAttributes, strings.TrimSpace(name)):
			parts[i] = name + "=" + maskedValue
		}
	}
	return strings.Join(parts, ",")
}
