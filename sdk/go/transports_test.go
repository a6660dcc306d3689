package chatapi_test

import (
	"sync"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

var quick = chatapi.ConnectOptions{MinDelay: 10 * time.Millisecond, MaxDelay: 200 * time.Millisecond}

func TestAnotherTransportStandsInAndWebSocketsComeBack(t *testing.T) {
	for _, transport := range []chatapi.Transport{chatapi.ServerEvents, chatapi.LongPoll} {
		t.Run(string(transport), func(t *testing.T) {
			r := newRig(t)
			room := r.group("alice", "bob")
			refusal := shared.ForeignAnswers["text_426"]
			intercept(t, "GET", "/v1/ws", refusal, refusal, refusal)
			if transport == chatapi.LongPoll {
				intercept(t, "GET", "/v1/events/stream", shared.ForeignAnswers["html_502"])
			}
			conn, err := r.through("bob", 0).Connect(r.ctx, quick)
			must(t, err)
			defer conn.Close()
			equal(t, conn.Transport(), transport)
			var seen []string
			for event, err := range conn.Events(r.ctx) {
				must(t, err)
				switch event := event.(type) {
				case *chatapi.SyncCompleteEvent:
					if len(seen) > 0 {
						break
					}
					r.send("alice", room, "one")
					sent, err := conn.Send(r.ctx, room, chatapi.Text("two"))
					must(t, err)
					equal(t, sent.Seq, 2)
				case *chatapi.MessageEvent:
					seen = append(seen, event.Message.Content)
				}
				if len(seen) >= 2 && conn.Transport() == chatapi.WebSocket && conn.State() == chatapi.StateLive {
					break
				}
			}
			equal(t, seen, []string{"one", "two"})
			equal(t, answersLeft(t), 0)
		})
	}
}

func TestServerThatIsAwayIsNoReasonForAnotherTransport(t *testing.T) {
	r := newRig(t)
	refusal, none := shared.ForeignAnswers["text_426"], shared.ForeignAnswers["html_502"]
	for range 6 {
		intercept(t, "GET", "/v1/ws", refusal)
		intercept(t, "GET", "/v1/livez", none)
	}
	conn, err := r.through("bob", -1).Connect(r.ctx, quick)
	must(t, err)
	defer conn.Close()
	equal(t, conn.Transport(), chatapi.WebSocket)
	_, err = r.client("bob").Connect(r.ctx, chatapi.ConnectOptions{Transports: []chatapi.Transport{"carrier pigeon"}})
	equal(t, err != nil, true)
}

func TestStatesAreToldInOrder(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	var told []chatapi.State
	bob := r.connectWith("bob", chatapi.ConnectOptions{OnState: func(state chatapi.State) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, state)
	}}, nil)
	must(t, bob.conn.Pause(r.ctx))
	bob.conn.Resume()
	bob.until(2, isType("sync.complete"))
	bob.conn.Close()
	mu.Lock()
	defer mu.Unlock()
	equal(t, told, []string{"syncing", "live", "paused", "connecting", "syncing", "live", "closed"})
}
