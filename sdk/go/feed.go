package chatapi

import (
	"context"
	"encoding/json"
)

// feed is the way from a socket's frames to the application's events: nothing twice, nothing out of order, nothing left
// out. Its methods are called with the connection's lock held, unless they say otherwise.
type feed struct {
	conn          *Connection
	book          *cursorBook
	notifications *notificationBook
	inbox         inbox
	ready         *ReadyEvent // of the newest socket
	inHand        *entry      // the event that the application is handling
	acksDue       chan struct{}

	// Of the present socket
	group       *group
	fills       int    // rooms whose gap is being read
	complete    *frame // a sync.complete that waits for the gaps
	isReturning bool   // a notification was let go: a new socket brings it again
}

func newFeed(conn *Connection, cursors *Cursors, most int) *feed {
	return &feed{
		conn: conn, book: newCursorBook(cursors), notifications: newNotificationBook(),
		inbox: inbox{most: most}, acksDue: make(chan struct{}, 1),
	}
}

// finish: the application is done with the event that it was given last.
func (f *feed) finish() {
	e := f.inHand
	f.inHand = nil
	switch {
	case e == nil:
		return
	case e.room != nil:
		f.book.handle(e.frame.roomID(), e.room, e.frame.seq())
	case e.frame.kind == "notification":
		f.notifications.handle(e.frame.fields.text("notification_id"))
	}
	f.signalAcks()
}

func (f *feed) signalAcks() {
	select {
	case f.acksDue <- struct{}{}:
	default:
	}
}

// takeAcks is frames for what was handled, at most so many, taken as they are sent.
func (f *feed) takeAcks(most int) []map[string]any {
	var frames []map[string]any
	options := f.conn.options
	for len(frames) < most && !options.KeepUnacknowledged {
		acks := f.book.takeAcks(ackedRooms)
		if len(acks) == 0 {
			break
		}
		if len(acks) > 1 {
			frames = append(frames, map[string]any{"type": "ack", "rooms": acks})
			continue
		}
		for roomID, seq := range acks {
			frames = append(frames, map[string]any{"type": "ack", "room_id": roomID, "seq": seq})
		}
	}
	for _, id := range f.notifications.takeAcks(!options.KeepNotifications, most-len(frames)) {
		frames = append(frames, map[string]any{"type": "notification.ack", "notification_id": id})
	}
	return frames
}

// start: a new socket, whose goroutines live in `group`. It returns the `sync` that says where this connection stopped.
func (f *feed) start(group *group, ready *frame) (map[string]any, error) {
	event, ok := newEvent(ready).(*ReadyEvent)
	if !ok {
		return nil, &socketEnded{err: &NotChatAPIError{Call: "frame", Reason: "a ready of another form"}}
	}
	f.group = group
	f.ready = event
	sync := map[string]any{"type": "sync", "rooms": f.book.takeReady(event.Epoch, event.Rooms)}
	if f.book.epoch == "" {
		f.book.epoch = event.Epoch
	} else {
		sync["epoch"] = f.book.epoch
	}
	f.put(ready, nil)
	f.signalAcks()
	return sync, nil
}

// stop: the socket is gone.
func (f *feed) stop() {
	f.group = nil
	f.fills = 0
	f.complete = nil
	f.isReturning = false
	f.book.interrupt()
}

// loseRoom: the server says that the user may not read it any more.
func (f *feed) loseRoom(roomID string) {
	delete(f.book.wanted, roomID)
	f.book.drop(roomID)
	f.conn.growth.loseRoom(roomID)
}

func (f *feed) receive(got *frame) {
	switch {
	case got.isLogged():
		f.receiveLogged(got)
	case got.kind == "notification":
		f.receiveNotification(got)
	case got.kind == "ack.received":
		f.book.noteAcked(got.roomID(), got.fields.number("seq"))
		f.receiveNews(got)
	case got.kind == "subscribed":
		f.fillIfBehind(got.roomID(), f.book.noteLast(got.roomID(), got.fields.number("last_seq")))
	case got.kind == "sync.gap":
		room := f.book.get(got.roomID())
		room.skipTo(got.fields.number("to_seq"))
		f.fillIfBehind(got.roomID(), room)
	case got.kind == "sync.complete":
		f.receiveComplete(got)
	case !answers[got.kind] && !got.isRepetition():
		f.receiveNews(got)
	}
}

// receiveNews hands over an event that belongs to no room's log.
func (f *feed) receiveNews(got *frame) {
	switch {
	case got.kind == "sync.reset":
		rooms, _ := got.fields.numbers("rooms")
		f.book.reset(got.fields.text("epoch"), rooms)
	case got.kind == "room.created":
		f.book.join(got.roomID(), got.fields.number("last_seq"))
	case got.kind == "room.deleted":
		delete(f.book.wanted, got.roomID())
		f.book.drop(got.roomID())
	case got.kind == "typing" && f.book.unwanted[got.roomID()]:
		f.conn.silence(got.roomID())
		return
	case got.kind != "server.shutdown" && f.inbox.isFull():
		return // presence, typing, receipts: they may be dropped when the application is slow
	}
	f.put(got, nil)
}

func (f *feed) receiveNotification(got *frame) {
	switch {
	case f.inbox.isFull():
		if !f.isReturning && f.group != nil {
			f.isReturning = true
			f.group.run(f.returnWhenDrained)
		}
	case f.notifications.take(got.fields.text("notification_id")):
		f.put(got, nil)
	default:
		f.signalAcks()
	}
}

// returnWhenDrained is called without the lock.
func (f *feed) returnWhenDrained(ctx context.Context) error {
	f.conn.mu.Lock()
	defer f.conn.mu.Unlock()
	for f.inbox.free() == 0 {
		if err := f.conn.mu.wait(ctx); err != nil {
			return nil
		}
	}
	return &socketEnded{atOnce: true}
}

func (f *feed) receiveLogged(event *frame) {
	roomID := event.roomID()
	if f.book.unwanted[roomID] {
		f.conn.silence(roomID)
		return
	}
	room := f.book.get(roomID)
	if f.inbox.isFull() && !room.isBehind() && event.seq() > room.received {
		room.skipTo(event.seq()) // it is read from the log when there is space
	} else if room.take(event) {
		f.putLogged(event, room)
	}
	f.fillIfBehind(roomID, room)
}

func (f *feed) putLogged(event *frame, room *cursor) {
	f.put(event, room)
	isRemoval := event.kind == "member.left" || event.kind == "member.banned"
	if isRemoval && f.ready != nil && event.fields.text("user_id") == f.ready.UserID {
		f.book.leave(event.roomID(), room, event.seq())
		f.conn.growth.loseRoom(event.roomID())
	}
}

func (f *feed) put(got *frame, room *cursor) {
	f.conn.notice(got)
	f.inbox.put(entry{got, room})
	f.conn.mu.wake()
}

func (f *feed) receiveComplete(got *frame) {
	lastSeqs, _ := got.fields.numbers("rooms")
	for roomID, lastSeq := range lastSeqs {
		if !f.book.unwanted[roomID] && f.book.rooms[roomID] != nil {
			f.fillIfBehind(roomID, f.book.noteLast(roomID, lastSeq))
		}
	}
	f.complete = got
	f.completeSync()
}

// completeSync: the application hears that it is up to date once the last gap is filled.
func (f *feed) completeSync() {
	if f.complete == nil || f.fills > 0 {
		return
	}
	complete := f.complete
	f.complete = nil
	if f.ready != nil {
		f.book.epoch = f.ready.Epoch
	}
	f.conn.setState(StateLive)
	f.put(complete, nil)
}

// readyFrame joins the parts of a ready.
func readyFrame(first *frame, parts []json.RawMessage) *frame {
	if len(parts) == 0 {
		return first
	}
	var rooms []json.RawMessage
	for _, part := range append([]json.RawMessage{first.fields["rooms"]}, parts...) {
		var some []json.RawMessage
		_ = json.Unmarshal(part, &some) // parseFrame has looked
		rooms = append(rooms, some...)
	}
	first.fields["rooms"], _ = json.Marshal(rooms)
	delete(first.fields, "more")
	first.data, _ = json.Marshal(first.fields)
	return first
}
