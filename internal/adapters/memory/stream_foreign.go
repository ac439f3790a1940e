package memory

import "github.com/assylzhan-a/outboxie/internal/ports/relay"

// Misconfigure makes the stream unfit for publishing, with a reason. If reason is empty, the stream is fit again.
func (s *Stream) Misconfigure(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unfit = reason
}

func (s *Stream) fit() error {
	if s.unfit != "" {
		return relay.ErrStreamUnfit.With("%s", s.unfit)
	}
	return nil
}

// Forge stores a message that another program wrote. It has the headers of stamp, as if the engine had written it.
func (s *Stream) Forge(stamp relay.MessageMeta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(streamed{meta: stamp})
}
