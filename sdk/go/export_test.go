package chatapi

import "time"

// CutPauses shortens the pauses between tries. It is called once, before any test.
func CutPauses(longest time.Duration) {
	retryLimit, frameRetryLimit = longest, longest
}

// SetSignOfLife sets how long a stream may be silent without a word to the server, until restore is called.
func SetSignOfLife(silence time.Duration) (restore func()) {
	before := signOfLife
	signOfLife = silence
	return func() { signOfLife = before }
}

// MoveTo lets tests say that another server has the tenant.
func MoveTo(c *Client, address string) bool { return c.http.moveTo(address) }

// MaxHops is how often a call follows.
const MaxHops = maxHops
