package chatapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

func TestEveryWaitEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	room := r.group("alice", "bob")
	conn, err := r.client("alice").Connect(r.ctx, chatapi.ConnectOptions{})
	must(t, err)
	defer conn.Close()
	must(t, conn.Pause(r.ctx)) // so that nothing is answered
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	first, err := conn.Post(ctx, room, chatapi.Draft{Content: "first", ClientMessageID: "mine"})
	must(t, err)
	second, err := conn.Post(ctx, room, chatapi.Text("second")) // which waits for its turn
	must(t, err)
	third, err := conn.Post(r.ctx, room, chatapi.Text("third"))
	must(t, err)
	for _, delivery := range []*chatapi.Delivery{first, second} {
		_, err := delivery.Wait(r.ctx)
		var unconfirmed *chatapi.UnconfirmedError
		equal(t, []bool{errors.As(err, &unconfirmed), errors.Is(err, context.DeadlineExceeded)}, []bool{true, true})
		equal(t, unconfirmed.ClientMessageID, delivery.ClientMessageID())
	}
	equal(t, first.ClientMessageID(), "mine")
	calls := map[string]func() error{
		"Ping":      func() error { _, err := conn.Ping(ctx); return err },
		"Read":      func() error { _, err := conn.Read(ctx, room, 0); return err },
		"Subscribe": func() error { _, err := conn.Subscribe(ctx, room); return err },
		"Delete":    func() error { return conn.Delete(ctx, room, "msg_x") },
		"Stream": func() error {
			_, err := conn.Stream(ctx, room, chatapi.Draft{}, chatapi.Chunks(func(func(string, error) bool) {}))
			return err
		},
		"GetRoom": func() error { _, err := r.client("alice").GetRoom(ctx, room); return err },
		"Connect": func() error { _, err := r.client("alice").Connect(ctx, chatapi.ConnectOptions{}); return err },
		"Events": func() (last error) {
			for _, last = range conn.Events(ctx) {
			}
			return last
		},
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn.Resume()
	sent, err := third.Wait(r.ctx)
	must(t, err)
	equal(t, sent.Seq, 1)
}

func TestCloseEndsEveryCall(t *testing.T) {
	r := newRig(t)
	room := r.group("alice", "bob")
	conn, err := r.client("alice").Connect(r.ctx, chatapi.ConnectOptions{})
	must(t, err)
	must(t, conn.Pause(r.ctx))
	var deliveries []*chatapi.Delivery
	for _, text := range numbered("message", 3) {
		delivery, err := conn.Post(r.ctx, room, chatapi.Text(text))
		must(t, err)
		deliveries = append(deliveries, delivery)
	}
	ended := make(chan error)
	go func() { _, err := conn.Ping(r.ctx); ended <- err }()
	time.Sleep(10 * time.Millisecond)
	conn.Close()
	for _, delivery := range deliveries {
		_, err := delivery.Wait(r.ctx)
		equal(t, []bool{errors.Is(err, chatapi.ErrClosed), errors.As(err, new(*chatapi.UnconfirmedError))}, []bool{true, true})
	}
	equal(t, errors.Is(<-ended, chatapi.ErrClosed), true)
	_, err = conn.Send(r.ctx, room, chatapi.Text("late"))
	equal(t, errors.Is(err, chatapi.ErrClosed), true)
	for range conn.Events(r.ctx) {
		t.Error("an event of a closed connection")
	}
	conn.Close()
}

func TestEventThatWasNotHandledComesAgain(t *testing.T) {
	r := newRig(t)
	room := r.group("alice", "bob")
	r.send("alice", room, "one")
	r.send("alice", room, "two")
	next := func(wanted string, isHandled bool) {
		t.Helper()
		conn, err := r.client("bob").Connect(r.ctx, chatapi.ConnectOptions{})
		must(t, err)
		defer conn.Close()
		for event, err := range conn.Events(r.ctx) {
			must(t, err)
			if message, ok := event.(*chatapi.MessageEvent); ok {
				equal(t, message.Message.Content, wanted)
				if isHandled {
					conn.Handled()
				}
				break
			}
		}
		handled := conn.Cursors().Rooms[room]
		equal(t, handled == 1 && wanted == "one" || handled == 2, isHandled)
	}
	next("one", false)
	next("one", true)
	r.untilAcknowledged(room, "bob", 1)
	next("two", true)
}
