package chatapi

import (
	"context"
	"math/rand/v2"
	"time"
)

// fullJitter is the wait before the try after so many failed ones: anywhere below a bound that doubles with each, so
// that clients that failed together do not return together.
func fullJitter(attempt int, base, limit time.Duration) time.Duration {
	bound := limit
	if attempt < 32 {
		bound = min(limit, base<<attempt)
	}
	if bound <= 0 {
		return 0
	}
	return rand.N(bound)
}

// pause waits, and returns early with the context's error.
func pause(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
