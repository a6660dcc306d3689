package chatapi

import (
	"context"
	"errors"
	"time"
)

// run lives one socket after the other.
func (c *Connection) run() {
	for c.waitUntilWanted() {
		started := time.Now()
		isFinal := c.liveOnce(c.nextPhase(StateConnecting))
		if isFinal {
			return
		}
		c.mu.Lock()
		isPaused := c.isPaused
		delay := time.Duration(0)
		if !isPaused {
			delay = c.attempts.takeDelay(time.Since(started))
		}
		c.mu.Unlock()
		if !isPaused {
			_ = pause(c.nextPhase(StateWaiting), delay)
		}
	}
}

// nextPhase is a context that Pause, or Resume, may end.
func (c *Connection) nextPhase(state State) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skip != nil {
		c.skip()
	}
	ctx, skip := context.WithCancel(c.ctx)
	c.skip = skip
	if c.isPaused {
		skip()
	}
	c.setState(state)
	return ctx
}

// waitUntilWanted is false when the connection is closed.
func (c *Connection) waitUntilWanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.state != StateClosed {
		isFull := c.feed.inbox.isFull() && len(c.out.pending.waiting) == 0
		if !c.isPaused && !isFull {
			return true
		}
		if c.isPaused {
			c.setState(StatePaused)
		} else {
			c.setState(StateWaiting)
		}
		if c.mu.wait(c.ctx) != nil {
			return false
		}
	}
	return false
}

// liveOnce is one socket from its handshake to its end. True if another try is pointless.
func (c *Connection) liveOnce(ctx context.Context) bool {
	s, err := c.carrier.open(ctx)
	if err == nil {
		err = c.serve(ctx, s)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.noteEnd(err, findRefusal(s)) {
			c.finish(c.attempts.err)
			return true
		}
		return c.state == StateClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return c.state == StateClosed // it was paused, or closed
	}
	var ended *socketEnded
	if errors.As(err, &ended) {
		err = ended.err
		if err == nil {
			err = &NoAnswerError{"the handshake", errors.New("the connection ended before it was ready")}
		}
	}
	if c.attempts.fail(err) {
		c.finish(err)
		return true
	}
	return false
}
