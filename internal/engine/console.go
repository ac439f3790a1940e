package engine

import (
	"bytes"
	"context"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Console returns the options of the console. The caller may add the pages of its own service.
func (o Operating) Console() console.Options {
	options := console.Options{
		Token: o.Token, ReadToken: o.ReadToken, Issuer: o.Issuer, Open: o.Open, Instance: o.Config.InstanceID, Version: o.Version,
		Relay: o.Inspector, Parking: o.Parking, Parked: operating.UndecidedParked(o.Parking),
		DeadLetters: o.DeadLetters, DeadGroups: operating.NewDeadLetters(o.DeadLetters),
		Subscribers: o.Subscribers, Watcher: o.Watcher,
		Adopt:   adoptionPlanner(o.Config.Stream.Name, operating.NewAdopter(o.Repair, o.Publisher)),
		Effects: o.Effects, Checks: consoleChecks(o.Checks), Logger: o.Logger,
		HidePayload: o.Config.HTTP.ConsolePayloads == config.HidePayloads, Grant: postgres.OperatorGrant(string(o.Config.Database.URL)),
	}
	for _, setting := range o.Config.Settings() {
		options.Settings = append(options.Settings, console.Setting{Name: string(setting.Name), Value: setting.Value, Source: string(setting.Source)})
	}
	return options
}

func consoleChecks(checks []httpapi.Check) func(ctx context.Context) []console.Check {
	return func(ctx context.Context) []console.Check {
		shown := make([]console.Check, len(checks))
		for i, err := range httpapi.RunChecks(ctx, checks) {
			shown[i] = console.Check{Name: checks[i].Name, Required: checks[i].Required, Err: err}
		}
		return shown
	}
}

// adoptionPlanner returns the plans of an adopter in the words of `outboxie outbox adopt`.
func adoptionPlanner(stream string, adopter *operating.Adopter) console.PlanAdoption {
	return func(ctx context.Context, position *outbox.Position, acceptRepeats bool) (console.Adoption, error) {
		plan, err := adopter.Plan(ctx, position)
		if err != nil {
			return console.Adoption{}, WithAdoptHint(err)
		}
		plan.AcceptRepeats = acceptRepeats
		var text bytes.Buffer
		if err := DescribeAdoption(&text, stream, plan); err != nil {
			return console.Adoption{}, err
		}
		return console.Adoption{
			Text: text.String(), Version: plan.Version(),
			Do: func(ctx context.Context) error { return WithAdoptHint(adopter.Do(ctx, plan)) },
		}, nil
	}
}
