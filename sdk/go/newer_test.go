package chatapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

func newerRig(t *testing.T) *rig { return newRigAt(t, setting("NEWER"), nil) }

// readsOfEvents is how often the events of a room were asked for at the newer server.
func readsOfEvents(t *testing.T) int {
	t.Helper()
	return atNewer(t, "reads")
}

func atNewer(t *testing.T, what string) (number int) {
	t.Helper()
	must(t, json.Unmarshal([]byte(get(t, setting("NEWER")+"/newer/"+what)), &number))
	return number
}

// makeHistory makes six events, of which four are of kinds that a newer server has for them.
func (r *rig) makeHistory(room string) {
	r.Helper()
	alice := r.client("alice")
	first := r.send("alice", room, "first")
	_, err := alice.EditMessage(r.ctx, room, first.MessageID, chatapi.Edit{Content: "second"})
	must(r.T, err)
	_, err = alice.UpdateRoom(r.ctx, room, chatapi.RoomChange{Name: chatapi.Set("renamed")})
	must(r.T, err)
	_, err = alice.AddMember(r.ctx, room, "carol", "")
	must(r.T, err)
	_, err = alice.UpdateMember(r.ctx, room, "carol", chatapi.MemberChange{Role: chatapi.Set(chatapi.RoleAdmin)})
	must(r.T, err)
	r.send("alice", room, "last")
}

// rename: every other event is a message, and those between are of a kind that is not known.
func (r *rig) rename(room string, first, last int) {
	r.Helper()
	for number := first; number <= last; number++ {
		if number%2 == 1 {
			r.send("alice", room, fmt.Sprintf("message %d", number))
			continue
		}
		change := chatapi.RoomChange{Name: chatapi.Set(fmt.Sprintf("name %d", number))}
		_, err := r.client("alice").UpdateRoom(r.ctx, room, change)
		must(r.T, err)
	}
}

// logOf is what came of the room's log, once lastSeq is there.
func (b *inbox) logOf(room string, lastSeq int64) []chatapi.Event {
	b.r.Helper()
	isOfRoom := func(event chatapi.Event) bool {
		place, ok := event.Place()
		return ok && place.RoomID == room
	}
	b.until(1, func(event chatapi.Event) bool {
		place, _ := event.Place()
		return isOfRoom(event) && place.Seq == lastSeq
	})
	_, err := b.conn.Ping(b.r.ctx)
	must(b.r.T, err)
	return b.find(isOfRoom)
}

func places(events []chatapi.Event) []int64 {
	var found []int64
	for _, event := range events {
		place, _ := event.Place()
		found = append(found, place.Seq)
	}
	return found
}

func kinds(events []chatapi.Event) []string {
	var found []string
	for _, event := range events {
		found = append(found, event.Type())
	}
	return found
}

func init() {
	cases["new_kinds_of_events_are_of_the_log"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		bob, reads := r.connect("bob"), readsOfEvents(t)
		r.makeHistory(room)
		log := bob.logOf(room, 6)
		equal(t, kinds(log), []string{"message", "message.translated", "poll.closed", "huddle.joined", "pin.added", "message"})
		equal(t, places(log), upTo(6))
		equal(t, readsOfEvents(t), reads)
		r.untilAcknowledged(room, "bob", 6)
	}

	cases["new_kinds_of_events_are_caught_up"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		bob, reads := r.connect("bob"), readsOfEvents(t)
		r.rename(room, 1, 1)
		bob.messages(room, 1)
		must(t, bob.conn.Pause(r.ctx))
		r.rename(room, 2, 11)
		bob.conn.Resume()
		equal(t, places(bob.logOf(room, 11)), upTo(11))
		equal(t, readsOfEvents(t), reads) // the server streamed them
		r.eventually(func() bool { return bob.conn.Cursors().Rooms[room] == 11 })
		kept := bob.conn.Cursors()

		must(t, bob.conn.Pause(r.ctx))
		r.rename(room, 12, 51)
		bob.conn.Resume()
		log := bob.logOf(room, 51)
		equal(t, places(log), upTo(51))
		for i, kind := range kinds(log) {
			equal(t, kind, []string{"message", "poll.closed"}[i%2])
		}
		if readsOfEvents(t) == reads {
			t.Fatal("nothing was read over REST")
		}
		other := r.connectWith("bob", chatapi.ConnectOptions{Cursors: &kept}, nil)
		equal(t, places(other.logOf(room, 51)), upTo(51)[11:])
	}

	cases["new_fields_and_values_are_passed_on"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		bob := r.connect("bob")
		alice := r.client("alice")
		r.makeHistory(room)
		shown := []interface{ Raw() json.RawMessage }{bob.conn.Ready()}
		one, err := alice.GetRoom(r.ctx, room)
		must(t, err)
		rooms, err := alice.ListRooms(r.ctx, chatapi.RoomQuery{})
		must(t, err)
		members, err := alice.ListMembers(r.ctx, room, chatapi.MemberQuery{})
		must(t, err)
		messages, err := alice.ListMessages(r.ctx, room, chatapi.HistoryQuery{})
		must(t, err)
		events, err := alice.ListEvents(r.ctx, room, 0, 0)
		must(t, err)
		shown = append(shown, one, rooms.Rooms[0])
		roles := map[chatapi.Role]bool{}
		for _, member := range members.Members {
			shown, roles[member.Role] = append(shown, member), true
		}
		for _, message := range messages.Messages {
			shown = append(shown, message)
		}
		for _, event := range append(events.Events, bob.logOf(room, 6)...) {
			shown = append(shown, event)
		}
		equal(t, len(shown), 1+1+1+3+2+6+6)
		for _, record := range shown {
			var fields map[string]json.RawMessage
			must(t, json.Unmarshal(record.Raw(), &fields))
			for name, value := range shared.Newer.Fields {
				equal(t, fields[name], value)
			}
		}
		equal(t, []any{one.Type, bob.conn.Ready().Rooms[0].Type}, []any{"huddle", "huddle"})
		equal(t, slices.Sorted(maps.Keys(roles)), []string{"member", "owner"})
		r.connect("alice")
		bob.until(1, func(event chatapi.Event) bool {
			presence, ok := event.(*chatapi.PresenceEvent)
			return ok && presence.UserID == "alice" && presence.Status == "away"
		})
	}

	cases["new_frames_disturb_nothing"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		texts := numbered("message", 10)
		var sent *chatapi.Sent
		for _, text := range texts {
			var err error
			sent, err = alice.conn.Send(r.ctx, room, chatapi.Text(text))
			must(t, err)
		}
		edited, err := alice.conn.Edit(r.ctx, room, sent.MessageID, chatapi.Edit{Content: "edited"})
		must(t, err)
		equal(t, []any{edited.Seq, edited.Content}, []any{10, "edited"})
		messages := bob.messages(room, 10)
		equal(t, contents(messages), texts)
		equal(t, seqs(messages), upTo(10))
		_, err = bob.conn.Ping(r.ctx)
		must(t, err)
		all := bob.all()
		begin := slices.IndexFunc(all, isMessageOf(room))
		wanted := []map[string]any{}
		for range 9 {
			wanted = append(wanted, shared.Newer.Frames...)
		}
		var between []json.RawMessage
		for _, event := range all[begin:] {
			if _, isUnknown := event.(*chatapi.UnknownEvent); isUnknown && len(between) < len(wanted) && event.Type() != "message.translated" {
				between = append(between, event.Raw())
			}
		}
		var came []map[string]any
		for _, data := range between {
			var fields map[string]any
			must(t, json.Unmarshal(data, &fields))
			came = append(came, fields)
		}
		equal(t, came, wanted)
		equal(t, contents(r.stored(room)), append(slices.Clone(texts[:9]), "edited"))
	}

	cases["new_error_codes_are_told"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		alice := r.connect("alice")
		dm := chatapi.RoomDraft{Type: chatapi.DM, Members: []string{"bob"}}
		_, err := r.client("alice").CreateRoom(r.ctx, dm)
		must(t, err)
		_, err = r.client("alice").CreateRoom(r.ctx, dm)
		refused(t, err, "ROOM_EXISTS", 409)
		_, err = alice.conn.Send(r.ctx, room, chatapi.Text(""))
		equal(t, refused(t, err, "UNACCEPTABLE", 400).Field, "content")
		sent, err := alice.conn.Send(r.ctx, room, chatapi.Text("and on"))
		must(t, err)
		equal(t, sent.Seq, 1)
		alice.conn.Close()

		hasty := newRigAt(t, setting("NEWER"), map[string]any{"rate_limit": 5, "rate_burst": 3})
		room = hasty.group("alice", "bob")
		slowed := hasty.connect("alice")
		for _, text := range numbered("message", 4) {
			_, err := slowed.conn.Send(r.ctx, room, chatapi.Text(text))
			must(t, err)
		}
		equal(t, contents(hasty.stored(room)), numbered("message", 4))
	}

	cases["new_close_codes_end_no_connection"] = func(t *testing.T) {
		r := newerRig(t)
		room := r.group("alice", "bob")
		told := make(chan error, 100)
		options := chatapi.ConnectOptions{
			MinDelay: 50 * time.Millisecond, MaxDelay: 100 * time.Millisecond, OnError: func(err error) { told <- err },
		}
		bob := r.connectWith("bob", options, nil)
		for count, code := range shared.Newer.CloseCodes {
			post(t, setting("NEWER")+"/newer/close", code)
			r.send("alice", room, fmt.Sprintf("after %d", code))
			bob.until(count+2, isType("ready"))
			bob.messages(room, count+1)
		}
		_, err := bob.conn.Ping(r.ctx)
		must(t, err)
		log := bob.logOf(room, int64(len(shared.Newer.CloseCodes)))
		equal(t, len(log), len(shared.Newer.CloseCodes))
		for i, code := range shared.Newer.CloseCodes {
			equal(t, log[i].(*chatapi.MessageEvent).Message.Content, fmt.Sprintf("after %d", code))
		}
		equal(t, len(told), 0)
	}
}
