package chatapi

import (
	"context"
	"errors"
	"sort"
	"time"
)

const (
	clientFrameBytes = 128*1024 - 100 // the server's bound on a client's frame, without the request_id
	frameAttempts    = 5              // of a frame that is not a message; a message is tried until it is confirmed or refused
	frameRetryBase   = 100 * time.Millisecond
	maxUnconfirmed   = 1000 // messages of one connection; Post waits for a place
)

// The longest pause between tries; tests cut it short.
var frameRetryLimit = 10 * time.Second

// reply is the answer to a frame.
type reply struct {
	frame *frame
	err   error
}

// request is a frame whose answer somebody waits for.
type request struct {
	serial int
	fields map[string]any
	reply  chan reply // holds one
}

// pendings are the requests of one kind, by request_id. They are used with the connection's lock held.
type pendings struct{ waiting map[string]*request }

func (p *pendings) add(id string, serial int, fields map[string]any) *request {
	r := &request{serial, fields, make(chan reply, 1)}
	p.waiting[id] = r
	return r
}

// resolve gives an answer to who waits for it, and is false if nobody does.
func (p *pendings) resolve(id string, answer reply) bool {
	r, ok := p.waiting[id]
	if ok {
		select {
		case r.reply <- answer:
		default: // it has one already
		}
	}
	return ok
}

// after is the frames that were first sent after the one with this number, in that order.
func (p *pendings) after(serial int) []*request {
	var found []*request
	for _, r := range p.waiting {
		if r.serial > serial {
			found = append(found, r)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].serial < found[j].serial })
	return found
}

// outgoing is the requests of a connection: frames that need an answer, and calls over HTTP for contents that fit no
// frame. Its fields are used with the connection's lock held.
type outgoing struct {
	pending pendings // the application waits for these answers
	own     pendings // the connection itself does
	serial  int
	socket  socket // nil while none is greeted
	rooms   map[string]chan struct{}
}

func newOutgoing() *outgoing {
	return &outgoing{
		pending: pendings{map[string]*request{}}, own: pendings{map[string]*request{}}, rooms: map[string]chan struct{}{},
	}
}

// request sends a frame now or when there is a socket, again on the next one if the answer got lost, and returns the
// answer. most bounds the refusals that may pass; 0 sets no bound.
func (c *Connection) request(ctx context.Context, fields map[string]any, most int) (*frame, error) {
	id := newID()
	fields["request_id"] = id
	for attempt := 1; ; attempt++ {
		waiting, err := c.ask(id, fields)
		if err != nil {
			return nil, err
		}
		var got reply
		select {
		case got = <-waiting.reply:
		case <-ctx.Done():
			got.err = context.Cause(ctx)
		}
		c.mu.Lock()
		delete(c.out.pending.waiting, id)
		c.mu.Unlock()
		refusal, isRefusal := asRefusal(got.err)
		if !isRefusal || !refusal.mayPass() || attempt == most {
			return got.frame, got.err
		}
		if err := c.pause(ctx, max(refusal.RetryAfter, fullJitter(attempt, frameRetryBase, frameRetryLimit))); err != nil {
			return nil, err
		}
	}
}

func (c *Connection) ask(id string, fields map[string]any) (*request, error) {
	if _, err := encode(fields); err != nil {
		return nil, err // a Meta that cannot be JSON
	}
	c.mu.Lock()
	if c.state == StateClosed {
		defer c.mu.Unlock()
		return nil, c.closedError()
	}
	c.out.serial++
	waiting := c.out.pending.add(id, c.out.serial, fields)
	c.mu.wake() // answers have to be read although the application is slow
	socket := c.out.socket
	c.mu.Unlock()
	if socket != nil {
		socket.send(fields)
	}
	return waiting, nil
}

// pause waits, and ends with the context or the connection.
func (c *Connection) pause(ctx context.Context, delay time.Duration) error {
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	return pause(ctx, delay)
}

// whileOpen ends with the connection, too.
func (c *Connection) whileOpen(ctx context.Context) (context.Context, func()) {
	ctx, fail := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		fail(c.closedError())
	})
	return ctx, func() { stop(); fail(nil) }
}

// callPatiently is as patient as request without a bound, for what fits in no frame: tried until the server has done or
// refused it.
func (c *Connection) callPatiently(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	for attempt := 0; ; attempt++ {
		if err := c.waitUntilResumed(ctx); err != nil {
			return err
		}
		err := call(ctx)
		refusal, isRefusal := asRefusal(err)
		var delay time.Duration
		var foreign *NotChatAPIError
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case isRefusal && !refusal.mayPass() && !(refusal.Status == 401 && c.client.keys.isRenewable()):
			return err
		case isRefusal:
			delay = refusal.RetryAfter
		case errors.As(err, &foreign):
			delay = foreign.RetryAfter
		case !errors.Is(err, ErrNoAnswer):
			return err
		}
		delay = max(min(delay, time.Minute), fullJitter(attempt, frameRetryBase, frameRetryLimit))
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
}

func (c *Connection) waitUntilResumed(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.isPaused {
		if err := c.mu.wait(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// fits: quotes and the like grow in JSON, beyond what a frame may hold; HTTP has room for them.
func fits(fields map[string]any) bool {
	data, err := encode(fields)
	return err != nil || len(data) <= clientFrameBytes
}

// turn is a place in the order of messages, edits and deletions of one room: one at a time, in the order of the calls, so
// that a refusal does not change their order.
type turn struct {
	conn   *Connection
	roomID string
	before chan struct{} // closed when it is this one's turn
	done   chan struct{}
}

func (c *Connection) takeTurn(roomID string) *turn {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &turn{c, roomID, c.out.rooms[roomID], make(chan struct{})}
	c.out.rooms[roomID] = t.done
	return t
}

func (t *turn) wait(ctx context.Context) error {
	if t.before == nil {
		return nil
	}
	select {
	case <-t.before:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end lets the next one take its turn, once it would have been this one's.
func (t *turn) end() {
	if t.before == nil || isClosed(t.before) {
		t.pass()
		return
	}
	t.conn.spawn(func() { // it was given up before its turn
		<-t.before
		t.pass()
	})
}

func (t *turn) pass() {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	if t.conn.out.rooms[t.roomID] == t.done {
		delete(t.conn.out.rooms, t.roomID)
	}
	close(t.done)
}

func isClosed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
