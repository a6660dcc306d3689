package chatapi

const (
	maxHeld      = 200        // events per room kept behind a gap; later ones are read from the log too
	maxSyncBytes = 100 * 1024 // of cursors in one `sync`, so that the frame stays below the server's 128 KiB
	nameBytes    = 24         // of a room in a `sync` beside its id: quotes, colon, comma and a seq
)

// cursor is how far one device has come in one room's log. It is replaced, not changed, when the server resets the room,
// so that an event of the log before the reset cannot move the cursor in the log after it.
type cursor struct {
	isKnown   bool  // false: the next event is the first
	received  int64 // taken in up to here
	handled   int64 // the application is done with it up to here
	acked     int64
	isMember  bool
	memberAt  int64 // the log up to here is older than the server's word that the user is a member
	gapEnd    int64 // above `received`: up to here the log has to be read
	isFilling bool
	held      []*frame // the events after the gap
}

func newCursor(seq int64, isMember bool) *cursor {
	return &cursor{isKnown: true, received: seq, handled: seq, acked: seq, isMember: isMember}
}

func (c *cursor) hasGap() bool { return c.isKnown && c.gapEnd > c.received }

// isBehind tells whether something has to be handed over before the next live event.
func (c *cursor) isBehind() bool { return c.hasGap() || len(c.held) > 0 }

// take is true when the event is the next one, to hand over now. Otherwise it is known already, or it waits: see
// isBehind.
func (c *cursor) take(event *frame) bool {
	seq := event.seq()
	if !c.isKnown {
		c.isKnown, c.received, c.handled, c.acked = true, seq, seq-1, seq-1
		return true
	}
	if seq <= c.received {
		return false
	}
	if c.isBehind() || seq > c.received+1 {
		c.hold(event)
		return false
	}
	c.received = seq
	return true
}

func (c *cursor) hold(event *frame) {
	seq := event.seq()
	if !c.isBehind() {
		c.gapEnd = seq - 1
	}
	expected := max(c.gapEnd, c.received) + int64(len(c.held)) + 1
	if seq == expected && len(c.held) < maxHeld {
		c.held = append(c.held, event)
	} else if seq >= expected {
		c.skipTo(seq)
	}
}

// skipTo says that everything up to seq has to be read from the log, including the events that are held.
func (c *cursor) skipTo(seq int64) {
	if n := len(c.held); n > 0 {
		seq = max(seq, c.held[n-1].seq())
		c.held = nil
	}
	if !c.isKnown {
		c.isKnown, c.received, c.handled, c.acked = true, seq-1, seq-1, seq-1
	}
	c.gapEnd = max(c.gapEnd, seq)
}

// takePage is the events of a page of the log after `received` that belong into the gap.
func (c *cursor) takePage(events []*frame, hasMore bool) []*frame {
	end := c.gapEnd
	var taken []*frame
	for _, event := range events {
		if seq := event.seq(); c.received < seq && seq <= end {
			c.received = seq
			taken = append(taken, event)
		}
	}
	// Where retention has removed events the log has nothing more below the end of the gap.
	if !hasMore || len(events) == 0 || events[len(events)-1].seq() >= end {
		c.received = max(c.received, end)
	}
	return taken
}

func (c *cursor) takeHeld() *frame {
	event := c.held[0]
	c.held = c.held[1:]
	c.received = event.seq()
	return event
}

// interrupt: the socket is gone, and the next `sync` brings what is missing.
func (c *cursor) interrupt() {
	c.isFilling = false
	c.gapEnd = 0
	c.held = nil
}

// cursorBook is every room that a connection knows of.
type cursorBook struct {
	epoch    string
	rooms    map[string]*cursor
	wanted   map[string]bool // channels subscribed to without being a member
	unwanted map[string]bool // rooms that this connection does not want
	unacked  map[string]*cursor
	// Rooms whose ack was sent on this socket and not answered, with where they were acknowledged before.
	unanswered map[string]int64
}

func newCursorBook(cursors *Cursors) *cursorBook {
	book := &cursorBook{rooms: map[string]*cursor{}, wanted: map[string]bool{}, unwanted: map[string]bool{}}
	book.unacked, book.unanswered = map[string]*cursor{}, map[string]int64{}
	if cursors != nil {
		book.epoch = cursors.Epoch
		for roomID, seq := range cursors.Rooms {
			book.rooms[roomID] = newCursor(seq, false)
		}
	}
	return book
}

// export tells how far the application has handled each room; rooms of which that is not known yet are left out.
func (b *cursorBook) export() Cursors {
	handled := map[string]int64{}
	for roomID, room := range b.rooms {
		if room.isKnown {
			handled[roomID] = room.handled
		}
	}
	return Cursors{Epoch: b.epoch, Rooms: handled}
}

// get: of a room that is not followed, the server tells members only.
func (b *cursorBook) get(roomID string) *cursor {
	room := b.rooms[roomID]
	if room == nil {
		room = &cursor{isMember: !b.wanted[roomID]}
		b.rooms[roomID] = room
	}
	return room
}

// isCurrent is false once the server has reset the room, or the user has left it: events of the old log then move
// nothing.
func (b *cursorBook) isCurrent(roomID string, room *cursor) bool { return b.rooms[roomID] == room }

func (b *cursorBook) drop(roomID string) {
	delete(b.rooms, roomID)
	delete(b.unacked, roomID)
	delete(b.unanswered, roomID)
}

// takeReady brings the book in line with the server's list of the user's rooms. It returns the cursors to name in
// `sync`: those of followed channels, which are followed by it, and those that differ from `last_ack`, where the server
// begins anyway, as many as fit. A room that was not named heals by itself: events that come twice are known, and missing
// ones show as a gap.
func (b *cursorBook) takeReady(epoch string, listed []ReadyRoom) map[string]int64 {
	clear(b.unanswered)
	b.forgetLeft(listed)
	isSameLog := b.epoch == "" || b.epoch == epoch
	named, size := b.nameFollowed()
	for _, entry := range listed {
		room := b.get(entry.RoomID)
		room.isMember = true
		room.memberAt = entry.LastSeq
		if !room.isKnown {
			room.isKnown, room.received, room.handled = true, entry.LastAck, entry.LastAck
		}
		room.acked = entry.LastAck
		if isSameLog && room.handled > entry.LastAck {
			b.unacked[entry.RoomID] = room // the last ack got lost
		}
		afterSeq := room.received
		if b.unwanted[entry.RoomID] {
			afterSeq = entry.LastSeq
		}
		if _, isNamed := named[entry.RoomID]; isNamed || (isSameLog && afterSeq == entry.LastAck) {
			continue
		}
		size += len(entry.RoomID) + nameBytes
		if size <= maxSyncBytes {
			named[entry.RoomID] = afterSeq
		}
	}
	return named
}

func (b *cursorBook) forgetLeft(listed []ReadyRoom) {
	present := make(map[string]bool, len(listed))
	for _, entry := range listed {
		present[entry.RoomID] = true
	}
	for roomID, room := range b.rooms {
		switch {
		case !room.isMember || present[roomID]:
		case b.wanted[roomID]:
			room.isMember = false // a channel that goes on being followed
		default:
			b.drop(roomID)
		}
	}
}

func (b *cursorBook) nameFollowed() (map[string]int64, int) {
	named, size := map[string]int64{}, 0
	for roomID := range b.wanted {
		room := b.rooms[roomID]
		size += len(roomID) + nameBytes
		if room != nil && room.isKnown && size <= maxSyncBytes {
			named[roomID] = room.received
		}
	}
	return named, size
}

// reset: the server has another log than the one the cursors came from; it begins at what was acknowledged there.
func (b *cursorBook) reset(epoch string, rooms map[string]int64) {
	if epoch != b.epoch {
		for roomID, room := range b.rooms {
			if _, isNamed := rooms[roomID]; !room.isMember {
				b.drop(roomID)
			} else if !isNamed { // one that the `sync` did not name; `acked` is from this `ready`
				b.beginAnew(roomID, room.acked, room.memberAt)
			}
		}
	}
	b.epoch = epoch
	for roomID, lastAck := range rooms {
		b.beginAnew(roomID, lastAck, b.get(roomID).memberAt)
	}
}

func (b *cursorBook) beginAnew(roomID string, seq, memberAt int64) {
	room := newCursor(seq, b.get(roomID).isMember)
	room.memberAt = memberAt
	b.rooms[roomID] = room
	delete(b.unacked, roomID)
	delete(b.unanswered, roomID)
}

// join: the user is a member from now on, and gets what follows lastSeq.
func (b *cursorBook) join(roomID string, lastSeq int64) {
	room := b.rooms[roomID]
	if room == nil {
		room = newCursor(lastSeq, true)
		b.rooms[roomID] = room
	}
	room.isMember = true
	room.memberAt = max(room.memberAt, lastSeq)
}

// leave: the log says that the user has left, or was removed, at seq: history, where the server has said since then that
// they are a member.
func (b *cursorBook) leave(roomID string, room *cursor, seq int64) {
	switch {
	case seq <= room.memberAt || !b.isCurrent(roomID, room):
	case b.wanted[roomID]:
		room.isMember = false
	default:
		b.drop(roomID)
	}
}

// noteLast notes the newest event so far, as the server gives it. It opens a gap when that has not come.
func (b *cursorBook) noteLast(roomID string, lastSeq int64) *cursor {
	room := b.rooms[roomID]
	if room == nil {
		room = &cursor{}
		b.rooms[roomID] = room
	}
	if !room.isKnown {
		room.isKnown, room.received, room.handled = true, lastSeq, lastSeq
	} else if lastSeq > room.received && !room.isBehind() {
		room.skipTo(lastSeq)
	}
	return room
}

// handle: the application is done with the event.
func (b *cursorBook) handle(roomID string, room *cursor, seq int64) {
	room.handled = seq
	if b.isCurrent(roomID, room) {
		b.unacked[roomID] = room
	}
}

// takeAcks is the acknowledgements that are due, at most so many; they are taken as they are sent.
func (b *cursorBook) takeAcks(most int) map[string]int64 {
	acks := map[string]int64{}
	for roomID, room := range b.unacked {
		if len(acks) == most {
			break
		}
		delete(b.unacked, roomID)
		if room.isMember && room.isKnown && room.handled > room.acked {
			if _, isKnown := b.unanswered[roomID]; !isKnown {
				b.unanswered[roomID] = room.acked
			}
			room.acked = room.handled
			acks[roomID] = room.handled
		}
	}
	return acks
}

// noteAcked: the server has stored an ack of the user's.
func (b *cursorBook) noteAcked(roomID string, seq int64) {
	if room := b.rooms[roomID]; room != nil && seq >= room.acked {
		delete(b.unanswered, roomID)
	}
}

// repeatAcks: those that have no answer are due again, since one of them was refused.
func (b *cursorBook) repeatAcks() {
	for roomID, acked := range b.unanswered {
		b.rooms[roomID].acked = acked
		b.unacked[roomID] = b.rooms[roomID]
	}
	clear(b.unanswered)
}

// interrupt: as cursor.interrupt, for every room.
func (b *cursorBook) interrupt() {
	for _, room := range b.rooms {
		room.interrupt()
	}
}
