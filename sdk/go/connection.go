package chatapi

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// State of a connection.
type State string

const (
	StateConnecting State = "connecting"
	StateSyncing    State = "syncing" // what was missed is coming
	StateLive       State = "live"
	StateWaiting    State = "waiting" // for the next try
	StatePaused     State = "paused"
	StateClosed     State = "closed"
)

const (
	defaultMinDelay   = 500 * time.Millisecond
	defaultMaxDelay   = 30 * time.Second
	defaultMaxPending = 1000
	keptReports       = 100 // of states and errors that wait for callbacks
)

// ConnectOptions of [Client.Connect]; the zero value stands for the defaults.
type ConnectOptions struct {
	// Cursors say where this device stopped; without them the server continues from what the user has acknowledged.
	Cursors *Cursors
	// KeepUnacknowledged leaves it to Connection.Ack to acknowledge events.
	KeepUnacknowledged bool
	// KeepNotifications leaves it to Connection.AckNotification to acknowledge notifications.
	KeepNotifications bool
	// MinDelay (0.5 s) and MaxDelay (30 s) bound the first and any later wait before a reconnect, of which a random part
	// is waited.
	MinDelay, MaxDelay time.Duration
	// MaxPending is how many events wait for the application before the socket is read no further (1,000).
	MaxPending int
	// Transports are those to use, the best first; all of them if there are none. Where WebSockets do not pass (three
	// tries failed, and REST answers), Server-Sent Events stand in for them, then long polls.
	Transports []Transport
	// OnState is told each state, in order, one call after the other. It must not call Close, which waits for it.
	OnState func(State)
	// OnError is told, likewise, what keeps the connection from coming up although the network is there, once each. See
	// Connection.Err.
	OnError func(error)
}

// Connection is one user's live connection: it comes back by itself, and hands over each event of a room once and in
// order. Its methods may be called from several goroutines; Events by one at a time. Close it at the end.
type Connection struct {
	client  *Client
	options ConnectOptions
	ctx     context.Context // ends with the connection
	cancel  context.CancelFunc
	carrier *carrier
	slots   chan struct{} // of unconfirmed messages

	mu       monitor
	state    State
	final    error // what ended the connection, if it was not Close
	isPaused bool
	skip     context.CancelFunc // ends the present socket, or the present wait
	isOpen   bool               // `ready` has come once
	running  int                // goroutines
	feed     *feed
	out      *outgoing
	attempts *attempts
	growth   *growth
	writers  map[string]*streamWriter // streams of this connection, by message
	typist   *typist
	session  *session // over the present socket
	reports  []func() // that wait for callbacks
	closing  sync.Once
}

// Connect opens a connection and returns when the server has said `ready`, however long that takes: the context bounds
// it, and nothing after it. It fails with *[APIError] when the server refuses the caller.
func (c *Client) Connect(ctx context.Context, options ConnectOptions) (*Connection, error) {
	if options.MinDelay <= 0 {
		options.MinDelay = defaultMinDelay
	}
	if options.MaxDelay <= 0 {
		options.MaxDelay = defaultMaxDelay
	}
	if options.MaxPending <= 0 {
		options.MaxPending = defaultMaxPending
	}
	carrier, err := newCarrier(c, options)
	if err != nil {
		return nil, err
	}
	conn := &Connection{
		client: c, carrier: carrier, options: options, state: StateConnecting, out: newOutgoing(), typist: newTypist(),
		slots: make(chan struct{}, maxUnconfirmed), writers: map[string]*streamWriter{},
	}
	conn.ctx, conn.cancel = context.WithCancel(context.Background())
	conn.feed = newFeed(conn, options.Cursors, options.MaxPending)
	conn.growth = newGrowth(conn)
	conn.attempts = &attempts{
		keys: c.keys, first: options.MinDelay, longest: options.MaxDelay, tellError: conn.reportError,
	}
	conn.spawn(conn.run)
	if options.OnState != nil || options.OnError != nil {
		conn.spawn(conn.deliverReports)
	}
	if err := conn.waitUntilOpen(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Connection) waitUntilOpen(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.isOpen {
		if c.state == StateClosed {
			return c.closedError()
		}
		if err := c.mu.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// spawn runs a goroutine for which Close waits.
func (c *Connection) spawn(work func()) {
	c.mu.Lock()
	c.running++
	c.mu.Unlock()
	go func() {
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.running--
			c.mu.wake()
		}()
		work()
	}()
}

// Close acknowledges the events that were handled, and ends the connection. Calls that wait for an answer fail with an
// error for which errors.Is(err, [ErrClosed]) holds. When it returns, no goroutine of the connection is left.
func (c *Connection) Close() {
	c.closing.Do(c.sayGoodbye)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running > 0 {
		_ = c.mu.wait(context.Background())
	}
}

func (c *Connection) sayGoodbye() {
	c.mu.Lock()
	session := c.session
	if c.state == StateClosed {
		session = nil
	}
	var acks []map[string]any
	if session != nil {
		acks = c.feed.takeAcks(closingAcks)
	}
	c.finish(nil)
	c.feed.inbox.discard()
	c.mu.Unlock()
	if session != nil {
		timer := time.AfterFunc(closeTimeout, session.socket.abort)
		session.socket.send(acks...)
		session.socket.close() // the server's half of it ends the session
		<-session.group.ctx.Done()
		timer.Stop()
	}
	c.cancel()
}

// finish is called with the lock held.
func (c *Connection) finish(err error) {
	if c.state == StateClosed {
		return
	}
	c.final = err
	c.setState(StateClosed)
	c.feed.inbox.end(err)
	c.growth.end()
	for _, waiting := range c.out.pending.waiting {
		select {
		case waiting.reply <- reply{err: c.closedError()}:
		default:
		}
	}
	for _, writer := range c.writers {
		writer.cutOff()
	}
	if err != nil {
		c.cancel()
	}
	c.mu.wake()
}

// closedError is called with the lock held.
func (c *Connection) closedError() error {
	if c.final != nil {
		return c.final
	}
	return ErrClosed
}

// Pause drops the socket until Resume; frames sent meanwhile wait. It returns once the socket is gone.
func (c *Connection) Pause(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isPaused = true
	if c.skip != nil {
		c.skip()
	}
	for c.state != StatePaused && c.state != StateClosed {
		if err := c.mu.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Resume connects again after Pause, and at once where the connection waits for its next try.
func (c *Connection) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isPaused = false
	if c.state == StateWaiting && c.skip != nil {
		c.skip()
	}
	c.mu.wake()
}

// State is that of now.
func (c *Connection) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Err is why the newest try to connect failed, or what ended the connection: *[APIError] when the server refused, or an
// error for which errors.Is(err, [ErrNoAnswer]) holds. It is nil while there is a socket.
func (c *Connection) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts.err
}

// Ready is the event of the newest connect.
func (c *Connection) Ready() *ReadyEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.feed.ready
}

// Cursors say how far the application has handled each room: plain JSON, to be kept and given to Connect.
func (c *Connection) Cursors() Cursors {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.feed.book.export()
}

// Unconfirmed counts the messages that the server has not confirmed yet.
func (c *Connection) Unconfirmed() int { return len(c.slots) }

// Events are those that come, until the connection is closed. One goroutine ranges over them at a time.
//
// An event counts as handled when the loop asks for the next one: only then is it acknowledged, and only then do Cursors
// include it. A loop that is left in the middle of an event, by break, return or a panic, has not handled it: another
// connection of the user gets it again, unless Handled was called, or another loop over this connection asks for the
// next one. If the context ends, or something ends the connection for good (the server refuses the credential), the
// last pair has a nil event and the error.
func (c *Connection) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := c.next(ctx)
			if event == nil && err == nil {
				return // closed
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

func (c *Connection) next(ctx context.Context) (Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feed.finish()
	for len(c.feed.inbox.entries) == 0 {
		if c.feed.inbox.isEnded {
			return nil, c.feed.inbox.err
		}
		if err := c.mu.wait(ctx); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	taken := c.feed.inbox.take()
	c.feed.inHand = &taken
	c.mu.wake()
	return newEvent(taken.frame), nil
}

// Handled says that the event that Events gave last has been handled, before the loop asks for the next one.
func (c *Connection) Handled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feed.finish()
}

// setState is called with the lock held.
func (c *Connection) setState(state State) {
	if state == c.state || c.state == StateClosed {
		return
	}
	c.state = state
	if tell := c.options.OnState; tell != nil {
		c.report(func() { tell(state) })
	}
	c.mu.wake()
}

func (c *Connection) reportError(err error) {
	if tell := c.options.OnError; tell != nil {
		c.report(func() { tell(err) })
	}
}

// report is called with the lock held. Callbacks that do not return lose the oldest.
func (c *Connection) report(tell func()) {
	if len(c.reports) == keptReports {
		c.reports = c.reports[1:]
	}
	c.reports = append(c.reports, tell)
	c.mu.wake()
}

// deliverReports calls callbacks without the lock, so that they may use the connection.
func (c *Connection) deliverReports() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.reports) == 0 {
			if c.state == StateClosed {
				return
			}
			_ = c.mu.wait(context.Background())
		}
		tell := c.reports[0]
		c.reports = c.reports[1:]
		c.mu.Unlock()
		tell()
		c.mu.Lock()
	}
}

func (c *Connection) markOpen() {
	c.isOpen = true
	c.mu.wake()
}

// notice sees every event on its way to the application, with the lock held.
func (c *Connection) notice(got *frame) {
	if got.kind == "message.cancel_requested" {
		if writer := c.writers[got.fields.text("message_id")]; writer != nil {
			writer.cancel()
		}
	}
	c.growth.receive(got)
}

// noteEnd notes what has ended a socket, with the lock held. True if another try is pointless.
func (c *Connection) noteEnd(err error, refusal *APIError) bool {
	if refusal != nil {
		return c.attempts.fail(refusal)
	}
	var ended *socketEnded
	if errors.As(err, &ended) {
		if ended.atOnce {
			c.attempts.comeBackIn(0)
		}
		if ended.err != nil {
			c.attempts.note(ended.err)
		}
	}
	return false
}
