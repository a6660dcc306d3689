package chatapi

import (
	"context"
	"errors"
	"sync"
)

// monitor guards the state of a connection, and wakes those who wait for it to change.
type monitor struct {
	sync.Mutex
	changed chan struct{} // closed at the next change, if anybody waits
}

// wake is called with the lock held.
func (m *monitor) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// wait is called with the lock held, and gives it up meanwhile: for loops over a condition.
func (m *monitor) wait(ctx context.Context) error {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	changed := m.changed
	m.Unlock()
	defer m.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// group is goroutines that live and end together: the first one that fails ends the others.
type group struct {
	ctx  context.Context
	fail context.CancelCauseFunc
	done sync.WaitGroup
}

func newGroup(parent context.Context) *group {
	ctx, fail := context.WithCancelCause(parent)
	return &group{ctx: ctx, fail: fail}
}

func (g *group) run(work func(context.Context) error) {
	g.done.Add(1)
	go func() {
		defer g.done.Done()
		if err := work(g.ctx); err != nil {
			g.fail(err)
		}
	}()
}

// socketEnded ends what lives with one socket.
type socketEnded struct {
	atOnce bool  // come back without a wait
	err    error // why, where it was not the network
}

func (e *socketEnded) Error() string { return "the socket has ended" }
func (e *socketEnded) Unwrap() error { return e.err }

func asEnded(err error) *socketEnded {
	var ended *socketEnded
	if errors.As(err, &ended) {
		return ended
	}
	return &socketEnded{}
}
