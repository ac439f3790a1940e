package demo

import (
	"context"
	"fmt"
	"time"
)

// patience bounds everything that is waited for, but for what Docker does. It is far more than anything needs.
const patience = 30 * time.Second

// await asks until the answer is yes, or an error, for as long as patience lasts.
func await(ctx context.Context, every time.Duration, yes func() (bool, error)) error {
	for began := time.Now(); ; {
		done, err := yes()
		switch {
		case done || err != nil:
			return err
		case time.Since(began) > patience:
			return fmt.Errorf("not within %s", patience)
		case !pause(ctx, every):
			return ctx.Err()
		}
	}
}

// pause reports whether ctx still goes on after it.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}
