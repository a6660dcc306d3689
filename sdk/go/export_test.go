package chatapi

import "time"

// CutPauses shortens the pauses between tries. It is called once, before any test.
func CutPauses(longest time.Duration) {
	retryLimit, frameRetryLimit = longest, longest
}
