package codec

import (
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Module provides the encoders and the Decoder.
var Module = fx.Module("codec",
	fx.Provide(fx.Annotate(
		func() *Codec { return New(nil) },
		fx.As(new(orders.Encoder)), fx.As(new(orders.Decoder)), fx.As(new(orders.FulfillmentEncoder)),
	)),
)
