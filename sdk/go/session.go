package chatapi

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

const (
	acksPerSecond = 15 // the server delays acks above 20, and drops typing with them
	// At least, after the server could store none, as of a tenant that is held for a move.
	ackRetry    = time.Second
	closingAcks = 40 // the server's burst: more would keep the goodbye waiting
)

// session is the conversation over one socket: it says where the connection stopped, reads, acknowledges, and sees
// whether the server is there.
type session struct {
	conn        *Connection
	socket      socket
	group       *group
	isRepeating bool            // acks will be sent again; with the connection's lock
	isBlocked   bool            // not read, since the application is slow; with the connection's lock
	silenced    map[string]bool // rooms that the server was told not to send; likewise
}

// serve lives one socket to its end, and tells what ended it.
func (c *Connection) serve(ctx context.Context, s socket) error {
	g := newGroup(ctx)
	session := &session{conn: c, socket: s, group: g, silenced: map[string]bool{}}
	c.mu.Lock()
	c.attempts.succeeded()
	sync, err := c.feed.start(g, s.common().ready)
	if err == nil {
		c.session = session
		c.setState(StateSyncing)
		own := session.greetings(sync)
		g.run(func(context.Context) error { session.greet(own); return nil })
		for _, greeting := range own {
			g.run(func(ctx context.Context) error { return session.await(ctx, greeting) })
		}
		g.run(session.read)
		g.run(session.keepAlive)
		g.run(session.flushAcks)
		g.run(c.carrier.returnToWebSocket)
		c.markOpen()
	} else {
		g.fail(err)
	}
	c.mu.Unlock()
	<-g.ctx.Done()
	c.mu.Lock()
	c.session, c.out.socket = nil, nil
	c.out.own.waiting = map[string]*request{}
	c.typist.forgetAll()
	c.feed.stop()
	c.mu.wake()
	c.mu.Unlock()
	s.abort()
	g.done.Wait()
	s.wait()
	return context.Cause(g.ctx)
}

// greetings are the frames whose answers the connection waits for itself: where it stopped, and the channels of which
// nothing has come yet, which no `sync` can name. It is called with the lock held.
func (s *session) greetings(sync map[string]any) []*request {
	out := s.conn.out
	asked := map[string]bool{}
	for _, waiting := range out.pending.after(0) {
		if waiting.fields["type"] == "subscribe" {
			asked[waiting.fields["room_id"].(string)] = true
		}
	}
	own := []*request{s.addOwn(sync)}
	named := sync["rooms"].(map[string]int64)
	for roomID := range s.conn.feed.book.wanted {
		if _, isNamed := named[roomID]; !isNamed && !asked[roomID] {
			own = append(own, s.addOwn(map[string]any{"type": "subscribe", "room_id": roomID}))
		}
	}
	return own
}

func (s *session) addOwn(fields map[string]any) *request {
	id := newID()
	fields["request_id"] = id
	return s.conn.out.own.add(id, 0, fields)
}

// greet sends the greetings, and then again what got no answer on the last socket. Other frames wait for it.
func (s *session) greet(own []*request) {
	for _, greeting := range own {
		s.socket.send(greeting.fields)
	}
	serial := 0
	for {
		s.conn.mu.Lock()
		waiting := s.conn.out.pending.after(serial)
		if len(waiting) == 0 || s.group.ctx.Err() != nil {
			if s.conn.session == s {
				s.conn.out.socket = s.socket
			}
			s.conn.mu.Unlock()
			return
		}
		s.conn.mu.Unlock()
		for _, request := range waiting {
			s.socket.send(request.fields)
			serial = request.serial
		}
	}
}

// await waits for the answer to a greeting, and sends it again where it may pass. A `sync` that is refused ends the
// socket; a channel that is refused is followed no more.
func (s *session) await(ctx context.Context, greeting *request) error {
	for attempt := 0; ; attempt++ {
		var got reply
		select {
		case got = <-greeting.reply:
		case <-ctx.Done():
			return nil
		}
		refusal, isRefusal := asRefusal(got.err)
		if !isRefusal {
			return nil
		}
		if !refusal.mayPass() {
			if greeting.fields["type"] == "sync" {
				return &socketEnded{err: refusal}
			}
			s.conn.mu.Lock()
			delete(s.conn.feed.book.wanted, greeting.fields["room_id"].(string))
			s.conn.mu.Unlock()
			return nil
		}
		if pause(ctx, max(refusal.RetryAfter, fullJitter(attempt, frameRetryBase, frameRetryLimit))) != nil {
			return nil
		}
		s.socket.send(greeting.fields)
	}
}

func (s *session) read(ctx context.Context) error {
	for {
		got, err := next(s.socket)
		if err != nil {
			return err
		}
		s.conn.mu.Lock()
		err = s.waitForApplication(ctx)
		if err == nil {
			s.receive(got)
		}
		s.conn.mu.Unlock()
		if err != nil {
			return nil
		}
	}
}

// waitForApplication returns once the inbox has space, or the application waits for an answer, which has to be read. It
// is called with the lock held.
func (s *session) waitForApplication(ctx context.Context) error {
	c := s.conn
	for c.feed.inbox.isFull() && len(c.out.pending.waiting) == 0 && c.state != StateClosed {
		s.isBlocked = true
		if err := c.mu.wait(ctx); err != nil {
			return err
		}
	}
	if s.isBlocked {
		s.isBlocked = false
		s.socket.common().hear()
	}
	return nil
}

func (s *session) receive(got *frame) {
	c := s.conn
	if got.kind == "error" {
		s.receiveError(got)
		return
	}
	if id := got.requestID(); id != "" {
		c.out.pending.resolve(id, reply{frame: got})
		c.out.own.resolve(id, reply{frame: got})
	}
	if got.isCall {
		return
	}
	if got.kind == "server.shutdown" {
		s.expectEnd(got)
	}
	c.feed.receive(got)
}

func (s *session) expectEnd(shutdown *frame) {
	c := s.conn
	delay := readMilliseconds(shutdown.fields["reconnect_after_ms"])
	var address string
	if json.Unmarshal(shutdown.fields["url"], &address) == nil && c.client.http.moveTo(address) {
		c.attempts.expectMove(delay)
		return
	}
	c.attempts.comeBackIn(delay)
	c.attempts.failed = 0
}

func (s *session) receiveError(got *frame) {
	c := s.conn
	refusal := parseError(got.data, 0, readMilliseconds(got.fields["retry_after_ms"]))
	id := got.requestID()
	_, isOwn := c.out.own.waiting[id]
	roomID, isOfRoom := strings.CutPrefix(refusal.Field, "rooms.")
	switch {
	case isGone(refusal.Status) && isOfRoom && (id == "" || isOwn):
		c.feed.loseRoom(roomID) // the others are served
	case c.out.pending.resolve(id, reply{err: refusal}) || c.out.own.resolve(id, reply{err: refusal}):
	default:
		s.socket.common().refuse(refusal)
		if id == "" && refusal.Status >= 500 && !s.isRepeating {
			s.isRepeating = true
			s.group.run(func(ctx context.Context) error { return s.repeatAcks(ctx, refusal.RetryAfter) })
		}
	}
}

// repeatAcks: a frame that asks for no answer was refused, and the server does not say which. Acks may come twice.
func (s *session) repeatAcks(ctx context.Context, wait time.Duration) error {
	if pause(ctx, max(wait, ackRetry)+fullJitter(0, ackRetry, ackRetry)) != nil {
		return nil
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.isRepeating = false
	s.conn.feed.book.repeatAcks()
	s.conn.feed.signalAcks()
	return nil
}

// readMilliseconds is 0 unless it is a number that can be waited for.
func readMilliseconds(value json.RawMessage) time.Duration {
	var number float64
	if json.Unmarshal(value, &number) != nil || number < 0 || number > 1e9 {
		return 0
	}
	return time.Duration(number * float64(time.Millisecond))
}

// silence asks the server for no more of this room, once. It is called with the lock held.
func (c *Connection) silence(roomID string) {
	s := c.session
	if s == nil || s.silenced[roomID] {
		return
	}
	s.silenced[roomID] = true
	s.group.run(func(context.Context) error {
		s.socket.send(map[string]any{"type": "unsubscribe", "room_id": roomID})
		return nil
	})
}

// keepAlive ends a socket on which the server fell silent, and speaks up while the application is too slow for it.
func (s *session) keepAlive(ctx context.Context) error {
	heartbeat := s.socket.common().heartbeat
	for {
		if pause(ctx, heartbeat/2) != nil {
			return nil
		}
		s.conn.mu.Lock()
		isBlocked := s.isBlocked
		s.conn.mu.Unlock()
		silence := s.socket.common().silence()
		if !isBlocked && silence > 2*heartbeat {
			return &socketEnded{}
		}
		if isBlocked || silence > heartbeat*3/4 {
			s.socket.send(map[string]any{"type": "ping"})
		}
	}
}

func (s *session) flushAcks(ctx context.Context) error {
	for {
		select {
		case <-s.conn.feed.acksDue:
		case <-ctx.Done():
			return nil
		}
		if pause(ctx, s.socket.ackDelay()) != nil {
			s.conn.feed.signalAcks()
			return nil
		}
		for {
			s.conn.mu.Lock()
			frames := s.conn.feed.takeAcks(acksPerSecond)
			s.conn.mu.Unlock()
			s.socket.send(frames...)
			if len(frames) < acksPerSecond {
				break
			}
			if pause(ctx, time.Second) != nil {
				s.conn.feed.signalAcks()
				return nil
			}
		}
	}
}
