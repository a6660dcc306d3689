package chatapi

import (
	"errors"
	"fmt"
	"time"
)

const (
	stableAfter       = 5 * time.Second // a connection that lived this long resets the back-off
	newTokens         = 2               // tried in a row when the server refuses them, unless they have only expired
	maxConnectionWait = 5 * time.Minute // however long a wait was asked for: the obstacle may be gone earlier
)

// attempts is one try to connect after the other: how long to wait in between, what the application is told, when to
// give up. It is used with the connection's lock held.
type attempts struct {
	keys      *keyring
	first     time.Duration
	longest   time.Duration
	tellError func(error)
	failed    int
	moves     int // to other servers, since a connection was stable
	refusals  int
	told      string
	err       error          // why the newest try failed
	nextDelay *time.Duration // where it is not the back-off's to say
}

// succeeded: `ready` has come.
func (a *attempts) succeeded() {
	a.refusals, a.told, a.err = 0, "", nil
}

// fail is true where another try is pointless: a refusal that will not pass, which no new token changes.
func (a *attempts) fail(err error) bool {
	if refusal, ok := asRefusal(err); ok && a.isFinal(refusal) {
		a.err = err
		a.tell(err)
		return true
	}
	a.note(err)
	return false
}

// note notes the failure that ended a socket. The next socket may do better.
func (a *attempts) note(err error) {
	a.err = err
	var network *NoAnswerError
	if !errors.As(err, &network) {
		a.tell(err)
	}
}

// tell tells the application once, until something else is in the way or there was a connection.
func (a *attempts) tell(err error) {
	text := fmt.Sprintf("%T %v", err, err)
	if text != a.told {
		a.told = text
		a.tellError(err)
	}
}

// takeDelay is before the next try, after one that has lived so long.
func (a *attempts) takeDelay(lived time.Duration) time.Duration {
	if lived > stableAfter {
		a.failed, a.moves = 0, 0
	}
	if a.nextDelay != nil {
		delay := *a.nextDelay
		a.nextDelay = nil
		return delay
	}
	delay := a.findDelay(a.failed, a.err)
	a.failed++
	return delay
}

// findDelay: the delay that a proxy asks for is advice, which counts up to the longest of our own delays.
func (a *attempts) findDelay(failed int, err error) time.Duration {
	var asked time.Duration
	var foreign *NotChatAPIError
	if refusal, ok := asRefusal(err); ok {
		asked = min(refusal.RetryAfter, maxConnectionWait)
	} else if errors.As(err, &foreign) {
		asked = min(foreign.RetryAfter, a.longest)
	}
	return max(fullJitter(failed, a.first, a.longest), asked)
}

// comeBackIn: the server, or the SDK itself, says when to come back.
func (a *attempts) comeBackIn(delay time.Duration) {
	a.nextDelay = &delay
}

// expectMove: another server has the tenant. After some moves in a row the back-off decides: two may name each other.
func (a *attempts) expectMove(delay time.Duration) {
	if a.moves++; a.moves <= maxHops {
		a.comeBackIn(delay)
	}
}

func (a *attempts) isFinal(refusal *APIError) bool {
	if refusal.Status == 401 && a.keys.isRenewable() {
		if !a.keys.hasExpired() {
			a.refusals++
		}
		a.keys.renew()
		return a.refusals > newTokens
	}
	return refusal.Status >= 400 && refusal.Status < 500 && !isPassing(refusal.Status)
}

// isPassing: a proxy that does not pass the upgrade on answers 426.
func isPassing(status int) bool { return status == 408 || status == 426 || status == 429 }
