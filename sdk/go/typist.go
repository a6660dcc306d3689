package chatapi

import "time"

const typingRepeat = 3 * time.Second // the server forgets a typist after 6 s

// typist tells the server when the user types, no more often than it has to. It is used with the connection's lock held.
type typist struct{ told map[string]time.Time }

func newTypist() *typist { return &typist{map[string]time.Time{}} }

// forget: a message has ended the typing, here as on the server.
func (t *typist) forget(roomID string) { delete(t.told, roomID) }

// forgetAll: another socket begins.
func (t *typist) forgetAll() { clear(t.told) }

// frame is what to send, or nil.
func (t *typist) frame(roomID string, isActive bool) map[string]any {
	last, wasTold := t.told[roomID]
	switch {
	case !isActive && wasTold:
		delete(t.told, roomID)
		return map[string]any{"type": "typing.stop", "room_id": roomID}
	case isActive && (!wasTold || time.Since(last) > typingRepeat):
		t.told[roomID] = time.Now()
		return map[string]any{"type": "typing.start", "room_id": roomID}
	}
	return nil
}
