package chatapi

import "context"

const pageEvents = 100 // the most that the server gives at once

// fillIfBehind is called with the lock held.
func (f *feed) fillIfBehind(roomID string, room *cursor) {
	if room.isBehind() && !room.isFilling && f.group != nil {
		room.isFilling = true
		f.fills++
		f.group.run(func(ctx context.Context) error { return f.fill(ctx, roomID, room) })
	}
}

// fill hands over what is missing, read from the log, and then what came meanwhile.
func (f *feed) fill(ctx context.Context, roomID string, room *cursor) error {
	f.conn.mu.Lock()
	defer f.conn.mu.Unlock()
	for room.isBehind() && f.book.isCurrent(roomID, room) {
		if room.hasGap() {
			if err := f.fillPage(ctx, roomID, room); err != nil {
				return err
			}
			continue
		}
		for f.inbox.isFull() {
			if err := f.conn.mu.wait(ctx); err != nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if len(room.held) > 0 && !room.hasGap() {
			f.putLogged(room.takeHeld(), room)
		}
	}
	if ctx.Err() == nil {
		room.isFilling = false
		f.fills--
		f.completeSync()
	}
	return nil
}

// fillPage is called with the lock held, and gives it up while it reads.
func (f *feed) fillPage(ctx context.Context, roomID string, room *cursor) error {
	for attempt := 0; ; attempt++ {
		for f.inbox.free() == 0 {
			if err := f.conn.mu.wait(ctx); err != nil {
				return err
			}
		}
		afterSeq, memberAt, limit := room.received, room.memberAt, min(f.inbox.free(), pageEvents)
		f.conn.mu.Unlock()
		events, hasMore, err := f.conn.client.listFrames(ctx, roomID, afterSeq, limit)
		f.conn.mu.Lock()
		switch refusal, isRefusal := asRefusal(err); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !f.book.isCurrent(roomID, room):
			return nil
		case err == nil:
			for _, event := range room.takePage(events, hasMore) {
				f.putLogged(event, room)
			}
			return nil
		case isRefusal && isGone(refusal.Status) && room.memberAt == memberAt: // and not back again meanwhile
			f.loseRoom(roomID)
			return nil
		case isRefusal && refusal.Status < 500 && !isGone(refusal.Status) && refusal.Status != 429:
			return &socketEnded{err: err} // a new `sync` may do better
		}
		f.conn.attempts.tell(err)
		delay := f.conn.attempts.findDelay(attempt, err)
		f.conn.mu.Unlock()
		err = pause(ctx, delay)
		f.conn.mu.Lock()
		if err != nil {
			return err
		}
	}
}

func isGone(status int) bool { return status == 403 || status == 404 }
