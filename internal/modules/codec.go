package modules

import (
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Codec provides the encoders and the Decoder.
var Codec = fx.Module("codec",
	fx.Provide(fx.Annotate(
		func() *codec.Codec { return codec.New(nil) },
		fx.As(new(orders.Encoder)), fx.As(new(orders.Decoder)), fx.As(new(orders.FulfillmentEncoder)),
	)),
)
