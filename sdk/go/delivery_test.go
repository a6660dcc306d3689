package chatapi_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

func init() {
	cases["send_and_receive"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		sent, err := alice.conn.Send(r.ctx, room, chatapi.Text("Hello"))
		must(t, err)
		equal(t, sent.Seq, 1)
		for _, box := range []*inbox{alice, bob} {
			got := box.messages(room, 1)[0]
			equal(t, []any{got.MessageID, got.Seq, got.Content, got.SenderID}, []any{sent.MessageID, 1, "Hello", "alice"})
		}
		_, err = alice.conn.Ping(r.ctx)
		must(t, err)
		equal(t, len(bob.messages(room, 1)), 1)
	}

	cases["order_is_kept"] = func(t *testing.T) {
		r := newRig(t)
		rooms := []string{r.group("alice", "bob"), r.group("alice", "bob")}
		alice, bob := r.connect("alice"), r.connect("bob")
		texts := numbered("message", 60)
		for _, text := range texts {
			for _, room := range rooms {
				_, err := alice.conn.Post(r.ctx, room, chatapi.Text(text))
				must(t, err)
			}
		}
		for _, room := range rooms {
			messages := bob.messages(room, 60)
			equal(t, contents(messages), texts)
			equal(t, seqs(messages), upTo(60))
		}
	}

	cases["every_kind_of_event_once"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.client("alice"), r.connect("bob")
		message := r.send("alice", room, "first")
		_, err := alice.EditMessage(r.ctx, room, message.MessageID, chatapi.Edit{Content: "second"})
		must(t, err)
		must(t, alice.DeleteMessage(r.ctx, room, message.MessageID))
		_, err = alice.UpdateRoom(r.ctx, room, chatapi.RoomChange{Name: chatapi.Set("renamed")})
		must(t, err)
		_, err = alice.AddMember(r.ctx, room, "carol", chatapi.RoleMember)
		must(t, err)
		_, err = alice.UpdateMember(r.ctx, room, "carol", chatapi.MemberChange{Role: chatapi.Set(chatapi.RoleAdmin)})
		must(t, err)
		must(t, alice.RemoveMember(r.ctx, room, "carol"))
		bob.until(1, isType("member.left"))
		log := bob.find(isLogged)
		var kinds []string
		var places []int64
		for _, event := range log {
			place, _ := event.Place()
			kinds, places = append(kinds, event.Type()), append(places, place.Seq)
		}
		equal(t, kinds, []string{"message", "message.edited", "message.deleted", "room.updated", "member.joined", "member.updated", "member.left"})
		equal(t, places, upTo(7))
		edited := log[1].(*chatapi.MessageEditedEvent)
		equal(t, []any{edited.Message.Seq, edited.Message.Content}, []any{1, "second"})
		equal(t, log[2].(*chatapi.MessageDeletedEvent).TargetSeq, 1)
		equal(t, log[3].(*chatapi.RoomEvent).Room.Name, "renamed")
		equal(t, log[3].(*chatapi.RoomEvent).Room.Type, "group")
		equal(t, log[5].(*chatapi.MemberEvent).Role, "admin")
	}

	cases["errors_are_told"] = func(t *testing.T) {
		r := newRig(t)
		alice, client := r.connect("alice"), r.client("alice")
		theirs, ours := r.group("bob", "carol"), r.group("alice", "bob")
		wrong, err := chatapi.New(r.url, chatapi.APIKey("sk_wrong", "alice"), nil)
		must(t, err)
		defer wrong.Close()
		_, err = wrong.ListRooms(r.ctx, chatapi.RoomQuery{})
		refused(t, err, chatapi.CodeAuthentication, 401)
		_, err = wrong.Connect(r.ctx, chatapi.ConnectOptions{})
		refused(t, err, chatapi.CodeAuthentication, 401)
		_, err = client.GetRoom(r.ctx, "room_unknown")
		refused(t, err, chatapi.CodeNotFound, 404)
		_, err = client.SendMessage(r.ctx, theirs, chatapi.Text("x"))
		refused(t, err, chatapi.CodeAuthorization, 403)
		_, err = alice.conn.Send(r.ctx, theirs, chatapi.Text("x"))
		refused(t, err, chatapi.CodeAuthorization, 403)
		_, err = client.SendMessage(r.ctx, ours, chatapi.Text(""))
		equal(t, refused(t, err, chatapi.CodeValidation, 400).Field, "content")
		_, err = alice.conn.Send(r.ctx, ours, chatapi.Text(""))
		equal(t, refused(t, err, chatapi.CodeValidation, 400).Field, "content")
		dm, err := client.CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.DM, Members: []string{"alice", "bob"}})
		must(t, err)
		_, err = client.CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.DM, Members: []string{"bob", "alice"}})
		equal(t, refused(t, err, chatapi.CodeConflict, 409).Details, map[string]any{"room_id": dm.RoomID})
	}

	cases["same_client_message_id_once"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice := r.connect("alice")
		draft := chatapi.Draft{Content: "once", ClientMessageID: "mine-1"}
		var ids []string
		for range 2 {
			message, err := r.client("alice").SendMessage(r.ctx, room, draft)
			must(t, err)
			ids = append(ids, message.MessageID)
		}
		sent, err := alice.conn.Send(r.ctx, room, draft)
		must(t, err)
		equal(t, ids, []string{sent.MessageID, sent.MessageID})
		equal(t, contents(r.stored(room)), []string{"once"})
	}

	cases["killed_server_loses_nothing"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		bob := r.connect("bob")
		for _, text := range numbered("before", 20) {
			r.send("alice", room, text)
		}
		restart(t)
		for _, text := range numbered("after", 20) {
			r.send("alice", room, text)
		}
		messages := bob.messages(room, 40)
		equal(t, contents(messages), append(numbered("before", 20), numbered("after", 20)...))
		equal(t, seqs(messages), upTo(40))
	}

	cases["send_outlasts_a_restart"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice := r.connect("alice")
		control(t, "kill")
		texts := numbered("offline", 10)
		deliveries := r.postAll(alice, room, texts)
		equal(t, alice.conn.Unconfirmed(), 10)
		control(t, "start")
		for i, delivery := range deliveries {
			sent, err := delivery.Wait(r.ctx)
			must(t, err)
			equal(t, sent.Seq, i+1)
		}
		equal(t, contents(r.stored(room)), texts)
		r.eventually(func() bool { return alice.conn.Unconfirmed() == 0 })
	}

	cases["kill_in_the_middle_of_sending"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		texts := numbered("message", 200)
		deliveries := r.postAll(alice, room, texts)
		_, err := deliveries[100].Wait(r.ctx)
		must(t, err)
		restart(t)
		for _, delivery := range deliveries {
			_, err := delivery.Wait(r.ctx)
			must(t, err)
		}
		equal(t, contents(r.stored(room)), texts)
		messages := bob.messages(room, 200)
		equal(t, contents(messages), texts)
		equal(t, seqs(messages), upTo(200))
	}

	cases["graceful_restart"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		bob := r.connect("bob")
		control(t, "stop")
		bob.until(1, isType("server.shutdown"))
		control(t, "start")
		r.send("alice", room, "after")
		equal(t, contents(bob.messages(room, 1)), []string{"after"})
	}

	cases["resume_from_own_cursors"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		first := r.connect("bob")
		for _, text := range numbered("early", 3) {
			r.send("alice", room, text)
		}
		first.messages(room, 3)
		r.eventually(func() bool { return first.conn.Cursors().Rooms[room] == 3 }) // the loop has asked for what follows
		data, err := json.Marshal(first.conn.Cursors())
		must(t, err)
		var kept chatapi.Cursors
		must(t, json.Unmarshal(data, &kept))
		equal(t, kept.Rooms, map[string]int64{room: 3})
		first.conn.Close()

		other := r.connect("bob")
		for _, text := range numbered("late", 4) {
			r.send("alice", room, text)
		}
		other.messages(room, 4)
		r.untilAcknowledged(room, "bob", 7)

		second := r.connectWith("bob", chatapi.ConnectOptions{Cursors: &kept}, nil)
		_, err = second.conn.Ping(r.ctx)
		must(t, err)
		equal(t, contents(second.messages(room, 4)), numbered("late", 4))
	}

	cases["gap_is_filled"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		bob := r.connect("bob")
		for _, text := range numbered("seen", 5) {
			r.send("alice", room, text)
		}
		bob.messages(room, 5)
		must(t, bob.conn.Pause(r.ctx))
		for _, text := range numbered("missed", 150) {
			r.send("alice", room, text)
		}
		bob.clear()
		bob.conn.Resume()
		bob.until(1, isType("sync.complete"))
		came := bob.find(func(event chatapi.Event) bool { return isMessageOf(room)(event) || event.Type() == "sync.complete" })
		equal(t, contents(bob.messages(room, 150)), numbered("missed", 150))
		equal(t, []any{len(came), came[150].Type()}, []any{151, "sync.complete"})
	}

	cases["handled_is_acknowledged"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		begun, finished := make(chan struct{}), make(chan struct{})
		finish := sync.OnceFunc(func() { close(finished) })
		defer finish()
		bob := r.connectWith("bob", chatapi.ConnectOptions{}, func(event chatapi.Event) {
			if event.Type() == "message" {
				close(begun)
				<-finished
			}
		})
		message := r.send("alice", room, "look at this")
		<-begun
		equal(t, []int64{r.acknowledged(room, "bob"), bob.conn.Cursors().Rooms[room]}, []int64{0, 0})
		finish()
		r.untilAcknowledged(room, "bob", message.Seq)
	}

	cases["notification_until_handled"] = func(t *testing.T) {
		r := newRig(t)
		bob := r.client("bob")
		notified, err := r.client("alice").Notify(r.ctx, "news", map[string]any{"n": 1}, chatapi.Targets{UserIDs: []string{"bob"}})
		must(t, err)
		equal(t, notified.Recipients, 1)
		first := r.connect("bob")
		got := first.until(1, isType("notification"))[0].(*chatapi.NotificationEvent)
		equal(t, []any{got.NotificationID, got.Topic, got.Payload}, []any{notified.NotificationID, "news", map[string]any{"n": 1}})
		r.eventually(func() bool {
			page, err := bob.ListNotifications(r.ctx, chatapi.NotificationQuery{Status: "pending"})
			must(t, err)
			return len(page.Notifications) == 0
		})
		first.conn.Close()
		second := r.connect("bob")
		_, err = second.conn.Ping(r.ctx)
		must(t, err)
		equal(t, len(second.find(isType("notification"))), 0)
	}

	cases["typing_and_presence"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		bob := r.connect("bob")
		alice := r.connect("alice")
		bob.until(1, func(event chatapi.Event) bool {
			presence, ok := event.(*chatapi.PresenceEvent)
			return ok && presence.UserID == "alice" && presence.Status == "online"
		})
		alice.conn.Typing(room, true)
		alice.conn.Typing(room, true) // the next key: not told again
		alice.conn.Typing(room, false)
		var told []string
		for _, event := range bob.until(2, isType("typing")) {
			typing := event.(*chatapi.TypingEvent)
			told = append(told, typing.RoomID+" "+typing.UserID+" "+typing.Action)
		}
		equal(t, told, []string{room + " alice start", room + " alice stop"})
	}

	cases["channel_is_followed"] = func(t *testing.T) {
		r := newRig(t)
		channel, err := r.client("alice").CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.Channel, Name: "news"})
		must(t, err)
		room := channel.RoomID
		r.send("alice", room, "before")
		carol := r.connect("carol")
		lastSeq, err := carol.conn.Subscribe(r.ctx, room)
		must(t, err)
		equal(t, lastSeq, 1)
		r.send("alice", room, "live")
		carol.messages(room, 1)
		must(t, carol.conn.Pause(r.ctx))
		for _, text := range numbered("missed", 2) {
			r.send("alice", room, text)
		}
		carol.conn.Resume()
		equal(t, contents(carol.messages(room, 3)), []string{"live", "missed 1", "missed 2"})
	}

	cases["user_token_is_renewed"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		var asked atomic.Int32
		source := chatapi.TokenSource(func(ctx context.Context) (string, error) {
			lifetime := time.Hour
			if asked.Add(1) == 1 {
				lifetime = time.Second
			}
			token, err := r.client("bob").CreateToken(ctx, chatapi.TokenRequest{ExpiresIn: lifetime})
			if err != nil {
				return "", err
			}
			return token.Token, nil
		})
		client, err := chatapi.New(r.url, source, nil)
		must(t, err)
		defer client.Close()
		bob := r.attach(client, chatapi.ConnectOptions{}, nil)
		r.eventually(func() bool { return asked.Load() > 1 })
		r.send("alice", room, "still there?")
		equal(t, contents(bob.messages(room, 1)), []string{"still there?"})
		rooms, err := client.ListRooms(r.ctx, chatapi.RoomQuery{})
		must(t, err)
		equal(t, rooms.Rooms[0].RoomID, room)
		bob.conn.Close()
	}

	cases["rate_limit_is_waited_out"] = func(t *testing.T) {
		r := newRigAt(t, setting("URL"), map[string]any{"rate_limit": 20, "rate_burst": 20})
		room := r.group("alice", "bob")
		alice := r.connect("alice")
		patient, err := chatapi.New(r.url, chatapi.APIKey(r.apiKey, "alice"), &chatapi.Options{Retries: 50})
		must(t, err)
		defer patient.Close()
		live, rest := numbered("live", 60), numbered("rest", 40)
		deliveries := r.postAll(alice, room, live)
		var sending sync.WaitGroup
		for _, text := range rest {
			sending.Add(1)
			go func() {
				defer sending.Done()
				if _, err := patient.SendMessage(r.ctx, room, chatapi.Text(text)); err != nil {
					t.Error(err)
				}
			}()
		}
		sending.Wait()
		for _, delivery := range deliveries {
			_, err := delivery.Wait(r.ctx)
			must(t, err)
		}
		stored := contents(r.stored(room))
		inOrder := slices.DeleteFunc(slices.Clone(stored), func(text string) bool { return !strings.HasPrefix(text, "live") })
		equal(t, inOrder, live)
		slices.Sort(stored)
		all := append(live, rest...)
		slices.Sort(all)
		equal(t, stored, all)
	}

	cases["slow_consumer_misses_nothing"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice := r.connect("alice")
		bob := r.connectWith("bob", chatapi.ConnectOptions{MaxPending: 10}, func(chatapi.Event) { time.Sleep(5 * time.Millisecond) })
		texts := numbered("message", 80)
		r.postAll(alice, room, texts)
		equal(t, contents(bob.messages(room, 80)), texts)
	}
}

func (r *rig) postAll(from *inbox, room string, texts []string) []*chatapi.Delivery {
	r.Helper()
	var deliveries []*chatapi.Delivery
	for _, text := range texts {
		delivery, err := from.conn.Post(r.ctx, room, chatapi.Text(text))
		must(r.T, err)
		deliveries = append(deliveries, delivery)
	}
	return deliveries
}
