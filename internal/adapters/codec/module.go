package codec

import (
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// Module provides the encoders and the Decoder.
var Module = fx.Module("codec",
	fx.Provide(fx.Annotate(
		func() *Codec { return New(nil) },
		fx.As(new(ordering.Encoder)), fx.As(new(ordering.Decoder)), fx.As(new(ordering.FulfillmentEncoder)),
	)),
)
