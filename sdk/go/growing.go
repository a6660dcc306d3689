package chatapi

import (
	"context"
	"iter"
	"slices"
)

const rememberedStreams = 1000 // that have ended

// GrowingMessage is a message that may still be written, kept up to date by its connection, whose events have to be read
// meanwhile.
type GrowingMessage struct {
	conn    *Connection
	message Message
	isLost  bool
	held    []*MessageDeltaEvent // deltas that came while it is being read again
	isRead  bool                 // it is
}

// Follow is a message of an event, or one that was read, which grows from now on as long as it is being written.
func (c *Connection) Follow(message Message) *GrowingMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	growing := &GrowingMessage{conn: c, message: message, isLost: c.state == StateClosed}
	if growing.isOpen() {
		c.growth.follow(growing)
	}
	return growing
}

// Message is the message as it now stands.
func (g *GrowingMessage) Message() Message {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	return g.message
}

// IsOpen tells whether it is still being written, and the connection hears of it.
func (g *GrowingMessage) IsOpen() bool {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	return g.isOpen()
}

func (g *GrowingMessage) isOpen() bool { return !g.isLost && g.message.Stream.IsOpen() }

// Text is the whole text so far, at once and each time that it has grown or was replaced; it ends with the stream, or
// when the connection is closed or has lost the room. If the context ends, the last pair has the error.
func (g *GrowingMessage) Text(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		shown, isFirst := "", true
		for {
			text, isOpen, err := g.next(ctx, shown, isFirst)
			switch {
			case err != nil:
				yield("", err)
				return
			case text == shown && !isFirst && !isOpen:
				return
			case !yield(text, nil):
				return
			}
			shown, isFirst = text, false
		}
	}
}

func (g *GrowingMessage) next(ctx context.Context, shown string, isFirst bool) (string, bool, error) {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	for !isFirst && g.message.Content == shown && g.isOpen() {
		if err := g.conn.mu.wait(ctx); err != nil {
			return "", false, err
		}
	}
	return g.message.Content, g.isOpen(), nil
}

// Finished is the message, once it has ended: Stream.State says how. Also when the connection was closed, or has lost the
// room: then it is still open.
func (g *GrowingMessage) Finished(ctx context.Context) (Message, error) {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	for g.isOpen() {
		if err := g.conn.mu.wait(ctx); err != nil {
			return g.message, err
		}
	}
	return g.message, nil
}

func (g *GrowingMessage) apply(event Event) {
	g.message = ApplyEvent(g.message, event)
	g.conn.mu.wake()
}

// growth is the growing messages of a connection: those that the application follows, and how far each one has come. It
// is used with the connection's lock held.
type growth struct {
	conn     *Connection
	followed map[string][]*GrowingMessage
	indexes  map[string]int  // of the newest delta, by message
	ended    map[string]bool // messages that may have been read before that
	order    []string        // of those, the oldest first
}

func newGrowth(conn *Connection) *growth {
	return &growth{
		conn: conn, followed: map[string][]*GrowingMessage{}, indexes: map[string]int{}, ended: map[string]bool{},
	}
}

func (g *growth) follow(growing *GrowingMessage) {
	id := growing.message.MessageID
	g.followed[id] = append(g.followed[id], growing)
	if g.ended[id] || g.indexes[id] > growing.message.Stream.Index {
		g.readAgain(growing)
	}
}

// receive sees every event before the application does.
func (g *growth) receive(got *frame) {
	id := got.fields.text("message_id")
	switch got.kind {
	case "message.delta":
		g.indexes[id] = int(got.fields.number("index"))
	case "message.state":
		state, _ := parseObject(got.fields["message"])
		stream, _ := parseObject(state["stream"])
		id = state.text("message_id")
		g.indexes[id] = int(stream.number("index"))
	case "message.finished", "message.deleted":
		g.rememberEnd(id)
	case "ready":
		clear(g.indexes)
	case "room.deleted":
		g.loseRoom(got.roomID())
	}
	if id == "" || len(g.followed[id]) == 0 {
		return
	}
	event := newEvent(got)
	for _, growing := range g.followed[id] {
		g.apply(growing, event)
	}
	g.forgetEnded(id)
}

func (g *growth) rememberEnd(id string) {
	delete(g.indexes, id)
	if !g.ended[id] {
		g.ended[id] = true
		g.order = append(g.order, id)
		if len(g.order) > rememberedStreams {
			delete(g.ended, g.order[0])
			g.order = g.order[1:]
		}
	}
}

func (g *growth) apply(growing *GrowingMessage, event Event) {
	if delta, ok := event.(*MessageDeltaEvent); ok {
		if growing.isRead {
			growing.held = append(growing.held, delta)
			return
		}
		if stream := growing.message.Stream; stream != nil && stream.Index < delta.Index && stream.Index != delta.After {
			g.readAgain(growing)
			return
		}
	}
	growing.apply(event)
}

func (g *growth) forgetEnded(id string) {
	g.followed[id] = slices.DeleteFunc(g.followed[id], func(growing *GrowingMessage) bool { return !growing.isOpen() })
	if len(g.followed[id]) == 0 {
		delete(g.followed, id)
	}
}

// readAgain: without a socket, the next one brings its state.
func (g *growth) readAgain(growing *GrowingMessage) {
	if group := g.conn.feed.group; group != nil && !growing.isRead {
		growing.isRead = true
		group.run(func(ctx context.Context) error { g.refresh(ctx, growing); return nil })
	}
}

// refresh is called without the lock.
func (g *growth) refresh(ctx context.Context, growing *GrowingMessage) {
	id := growing.Message().MessageID
	message, err := g.conn.client.GetMessage(ctx, growing.Message().RoomID, id)
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	held := growing.held
	growing.held, growing.isRead = nil, false
	if err != nil {
		return // the next delta asks again
	}
	growing.apply(&MessageStateEvent{Message: *message})
	for _, delta := range held {
		growing.apply(delta)
	}
	g.forgetEnded(id)
}

// loseRoom: the connection hears no more of it.
func (g *growth) loseRoom(roomID string) {
	g.lose(func(message Message) bool { return message.RoomID == roomID })
}

// end: the connection is closed.
func (g *growth) end() { g.lose(func(Message) bool { return true }) }

func (g *growth) lose(isLost func(Message) bool) {
	for id, followed := range g.followed {
		if isLost(followed[0].message) {
			delete(g.followed, id)
			for _, growing := range followed {
				growing.isLost = true
			}
		}
	}
	g.conn.mu.wake()
}
