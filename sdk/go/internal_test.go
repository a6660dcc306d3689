package chatapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func logged(seq int64) *frame {
	return makeFrame(map[string]any{"type": "message", "room_id": "r", "seq": seq})
}

func TestCursorTakesEachEventOnce(t *testing.T) {
	room := newCursor(3, true)
	for _, one := range []struct {
		seq     int64
		isTaken bool
	}{{3, false}, {4, true}, {4, false}, {2, false}, {5, true}, {5, false}} {
		if isTaken := room.take(logged(one.seq)); isTaken != one.isTaken {
			t.Errorf("%d: %t", one.seq, isTaken)
		}
	}
	if room.take(logged(8)) || !room.hasGap() || room.gapEnd != 7 || room.take(logged(9)) || len(room.held) != 2 {
		t.Errorf("the gap before 8: %+v", room)
	}
	if taken := room.takePage([]*frame{logged(5), logged(6), logged(7), logged(8)}, true); len(taken) != 2 || room.hasGap() {
		t.Errorf("of the page %d events were taken: %+v", len(taken), room)
	}
	if event := room.takeHeld(); event.seq() != 8 || room.received != 8 {
		t.Errorf("after the gap: %+v", room)
	}
}

func TestAcksThatHaveNoAnswerAreDueAgain(t *testing.T) {
	book := newCursorBook(nil)
	book.takeReady("e", []ReadyRoom{{RoomID: "r", LastSeq: 2}, {RoomID: "s", LastSeq: 2}})
	acks := func(handled ...string) map[string]int64 {
		for _, roomID := range handled {
			book.handle(roomID, book.rooms[roomID], book.rooms[roomID].handled+1)
		}
		return book.takeAcks(10)
	}
	if sent := acks("r", "r", "s"); len(sent) != 2 || sent["r"] != 2 {
		t.Errorf("sent: %v", sent)
	}
	book.noteAcked("s", 1)
	book.noteAcked("r", 1) // of another device
	book.repeatAcks()
	if sent := acks(); len(sent) != 1 || sent["r"] != 2 {
		t.Errorf("sent again: %v", sent)
	}
	book.noteAcked("r", 2)
	book.repeatAcks()
	if sent := acks(); len(sent) != 0 {
		t.Errorf("sent a third time: %v", sent)
	}
}

func TestGrowingMessageIsReadAgainWhenADeltaIsMissing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"success":true,"error":null,"data":{"message_id":"m","room_id":"r","seq":1,
			"created_at":"2025-12-13T12:00:00Z","content":"one two three","stream":{"state":"open","index":3}}}`))
	}))
	defer server.Close()
	client, err := New(server.URL, Token("t"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn := &Connection{client: client, state: StateLive}
	conn.feed, conn.growth = newFeed(conn, nil, 1), newGrowth(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn.feed.group = newGroup(ctx)
	growing := conn.Follow(Message{MessageID: "m", RoomID: "r", Seq: 1, Content: "one", Stream: &StreamStatus{State: StreamOpen, Index: 1}})
	conn.mu.Lock()
	conn.growth.receive(makeFrame(map[string]any{ // the one up to 2 was dropped
		"type": "message.delta", "room_id": "r", "message_id": "m", "after": 2, "index": 3, "text": " three",
	}))
	conn.mu.Unlock()
	conn.feed.group.done.Wait()
	if text := growing.Message().Content; text != "one two three" {
		t.Errorf("it has grown to %q", text)
	}
}
