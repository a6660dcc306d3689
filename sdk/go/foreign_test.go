package chatapi_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

// through is a client of a user behind the proxy.
func (r *rig) through(userID string, retries int) *chatapi.Client {
	r.Helper()
	client, err := chatapi.New(setting("PROXY"), chatapi.APIKey(r.apiKey, userID), &chatapi.Options{Retries: retries})
	must(r.T, err)
	r.Cleanup(client.Close)
	return client
}

func foreignAnswers(without ...string) []string {
	var answers []string
	for _, name := range slices.Sorted(maps.Keys(shared.ForeignAnswers)) {
		if !slices.Contains(without, name) {
			answers = append(answers, shared.ForeignAnswers[name])
		}
	}
	return answers
}

func init() {
	cases["foreign_answers_are_no_word_on_a_call"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		draft := chatapi.Draft{Content: "once", ClientMessageID: "mine"}
		message, err := r.client("alice").SendMessage(r.ctx, room, draft)
		must(t, err)
		impatient, patient := r.through("alice", -1), r.through("alice", len(shared.ForeignAnswers))
		calls := []struct {
			method string
			make   func(*chatapi.Client) error
		}{
			{"GET", func(c *chatapi.Client) error { _, err := c.ListEvents(r.ctx, room, 0, 0); return err }},
			{"POST", func(c *chatapi.Client) error { _, err := c.SendMessage(r.ctx, room, draft); return err }},
			{"PUT", func(c *chatapi.Client) error {
				_, err := c.EditMessage(r.ctx, room, message.MessageID, chatapi.Edit{Content: "twice"})
				return err
			}},
			{"DELETE", func(c *chatapi.Client) error { return c.DeleteMessage(r.ctx, room, message.MessageID) }},
		}
		for _, call := range calls {
			answers := foreignAnswers()
			if call.method == "DELETE" {
				answers = foreignAnswers("empty_204")
			}
			for _, answer := range answers {
				intercept(t, call.method, "/v1/rooms/", answer)
				if err := call.make(impatient); !errors.Is(err, chatapi.ErrNoAnswer) {
					t.Fatalf("%s: %v after %q", call.method, err, answer)
				}
			}
			intercept(t, call.method, "/v1/rooms/", answers...)
			must(t, call.make(patient))
			equal(t, answersLeft(t), 0)
		}
		for _, answer := range foreignAnswers() {
			intercept(t, "POST", "/v1/rooms", answer)
			_, err := patient.CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.Group})
			if !errors.Is(err, chatapi.ErrNoAnswer) {
				t.Fatalf("%v after %q", err, answer)
			}
		}
		rooms, err := r.client("alice").ListRooms(r.ctx, chatapi.RoomQuery{})
		must(t, err)
		stored := r.stored(room)
		equal(t, []any{len(rooms.Rooms), len(stored), stored[0].DeletedAt != nil}, []any{1, 1, true})
	}

	cases["foreign_answers_lose_no_room"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		quick := chatapi.ConnectOptions{MinDelay: 50 * time.Millisecond, MaxDelay: 50 * time.Millisecond}
		bob := r.attach(r.through("bob", -1), quick, nil)
		for _, text := range numbered("seen", 5) {
			r.send("alice", room, text)
		}
		bob.messages(room, 5)
		must(t, bob.conn.Pause(r.ctx))
		for _, text := range numbered("missed", 150) {
			r.send("alice", room, text)
		}
		bob.clear()
		intercept(t, "GET", "/events", foreignAnswers()...)
		bob.conn.Resume()
		bob.until(1, isType("sync.complete"))
		equal(t, answersLeft(t), 0)
		equal(t, seqs(bob.messages(room, 150)), upTo(155)[5:])
		r.untilAcknowledged(room, "bob", 155)
		r.send("alice", room, "and on")
		equal(t, bob.messages(room, 151)[150].Content, "and on")
		r.untilAcknowledged(room, "bob", 156)
		bob.conn.Close()
	}

	cases["foreign_answers_end_no_connection"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		var mu sync.Mutex
		told := map[string]bool{}
		bob := r.attach(r.through("bob", 0), chatapi.ConnectOptions{
			MinDelay: 50 * time.Millisecond, MaxDelay: 50 * time.Millisecond,
			Transports: []chatapi.Transport{chatapi.WebSocket},
			OnError:    func(err error) { mu.Lock(); defer mu.Unlock(); told[fmt.Sprintf("%T", err)] = true },
		}, nil)
		must(t, bob.conn.Pause(r.ctx))
		r.send("alice", room, "meanwhile")
		intercept(t, "GET", "/ws", foreignAnswers()...)
		bob.conn.Resume()
		equal(t, contents(bob.messages(room, 1)), []string{"meanwhile"})
		equal(t, answersLeft(t), 0)
		equal(t, bob.conn.Err(), nil)
		bob.conn.Close()
		mu.Lock()
		defer mu.Unlock()
		equal(t, told, map[string]bool{"*chatapi.NotChatAPIError": true})
	}

	cases["a_send_outlasts_foreign_answers"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice := r.attach(r.through("alice", -1), chatapi.ConnectOptions{}, nil)
		bob := r.connect("bob")
		long := strings.Repeat(`"`, 65_536)
		refusal := `{"success":false,"data":null,"error":{"code":"INTERNAL_ERROR","message":"The disk is full"}}`
		full := fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s", len(refusal), refusal)
		intercept(t, "POST", "/messages", append(foreignAnswers(), full)...)
		intercept(t, "PUT", "/messages", shared.ForeignAnswers["html_502"], full)
		deliveries := r.postAll(alice, room, []string{"first", long, "third"})
		messageID := bob.messages(room, 2)[1].MessageID
		for i, delivery := range deliveries {
			sent, err := delivery.Wait(r.ctx)
			must(t, err)
			equal(t, sent.Seq, i+1)
		}
		edited, err := alice.conn.Edit(r.ctx, room, messageID, chatapi.Edit{Content: long[1:] + "!"})
		must(t, err)
		equal(t, edited.Content, long[1:]+"!")
		must(t, alice.conn.Delete(r.ctx, room, messageID))
		last, err := alice.conn.Send(r.ctx, room, chatapi.Text("last"))
		must(t, err)
		equal(t, last.Seq, 6)
		equal(t, answersLeft(t), 0)
		equal(t, contents(r.stored(room)), []string{"first", "", "third", "last"})
		alice.conn.Close()
	}
}
