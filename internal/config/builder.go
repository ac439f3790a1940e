package config

import (
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"
)

// Builder makes a Config. Its methods may be called in any order. Each returns the Builder, except Build.
type Builder struct {
	environment []string
	flags       *pflag.FlagSet
	defaults    []func(*Config)
	set         []func(*Config)
	required    []Name
}

// NewBuilder returns a Builder that has only the defaults.
func NewBuilder() *Builder { return &Builder{} }

// Environment takes settings from variables of the form NAME=value, as os.Environ returns them. A variable with an empty value is not set.
func (b *Builder) Environment(variables []string) *Builder {
	b.environment = variables
	return b
}

// Flags takes settings from the flags of set. AddFlags must have added these flags. A flag counts only if the user has given the flag. Flags
// win over the environment.
func (b *Builder) Flags(set *pflag.FlagSet) *Builder {
	b.flags = set
	return b
}

// Default lets code change the defaults.
func (b *Builder) Default(change func(*Config)) *Builder {
	b.defaults = append(b.defaults, change)
	return b
}

// Set lets code change the Config before validation.
func (b *Builder) Set(change func(*Config)) *Builder {
	b.set = append(b.set, change)
	return b
}

// Require names settings that must not be empty.
func (b *Builder) Require(names ...Name) *Builder {
	b.required = append(b.required, names...)
	return b
}

// Build returns the configuration, or an *Error with all problems.
func (b *Builder) Build() (Config, error) {
	config := Default()
	for _, change := range b.defaults {
		change(&config)
	}
	origins := make(map[Name]origin)
	var problems []Problem
	given := b.given()
	for _, s := range settings {
		value, ok := given[s.name]
		if ok {
			// Each variable is parsed alone, so a problem names its variable.
			err := env.ParseWithOptions(&config, env.Options{Environment: map[string]string{string(s.name): value.text}})
			if err != nil || value.text == "" {
				problems = append(problems, s.problem(value.source, value.text))
			}
		}
		origins[s.name] = origin{text: config.text(s.name), source: value.source}
	}
	telemetry, unknown := b.others()
	config.built = &buildInfo{origins: origins, telemetry: telemetry, unknown: unknown}
	for _, change := range b.set {
		change(&config)
	}
	problems = append(problems, config.problems(b.required)...)
	if len(problems) > 0 {
		return Config{}, &Error{Problems: problems}
	}
	return config, nil
}

type givenValue struct {
	text   string
	source Source
}

// given returns the settings in the environment and the flags.
func (b *Builder) given() map[Name]givenValue {
	given := make(map[Name]givenValue)
	for _, variable := range b.environment {
		name, value, _ := strings.Cut(variable, "=")
		if s, ok := find(Name(name)); ok && value != "" && !s.flagOnly() {
			given[s.name] = givenValue{value, FromEnvironment}
		}
	}
	for _, s := range settings {
		if b.flags == nil || s.flag == "" || !b.flags.Changed(s.flag) {
			continue
		}
		given[s.name] = givenValue{b.flags.Lookup(s.flag).Value.String(), FromFlag}
	}
	return given
}

// others returns the variables that OpenTelemetry reads, and the variables that look like settings but are not.
func (b *Builder) others() (telemetry []Setting, unknown []string) {
	for _, variable := range b.environment {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" {
			continue
		}
		if strings.HasPrefix(name, "OTEL_") {
			telemetry = append(telemetry, Setting{Name: Name(name), Value: shownTelemetry(name, value), Source: FromEnvironment})
		}
		if _, ok := find(Name(name)); !ok && (strings.HasPrefix(name, "OUTBOX_") || strings.HasPrefix(name, "OUTBOXIE_")) {
			unknown = append(unknown, name)
		}
	}
	slices.SortFunc(telemetry, func(a, b Setting) int { return strings.Compare(string(a.Name), string(b.Name)) })
	slices.Sort(unknown)
	return telemetry, unknown
}

// AddFlags adds the flags of the named settings to set, with their help and defaults. Build validates their values.
func AddFlags(set *pflag.FlagSet, names ...Name) {
	defaults := Default()
	for _, name := range names {
		s, ok := find(name)
		if !ok || s.flag == "" {
			panic("config: there is no flag for " + string(name))
		}
		help := s.help
		if !s.flagOnly() {
			help += " [" + string(s.name) + "]"
		}
		flag := set.VarPF(&flagValue{text: defaults.text(name), kind: s.kind}, s.flag, "", help)
		if s.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// flagValue keeps a flag's text.
type flagValue struct{ text, kind string }

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return f.kind }

func (f *flagValue) Set(text string) error {
	f.text = text
	return nil
}
