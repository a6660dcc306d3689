package chatapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	chatapi "chatapi.invalid/chatapi-go"
)

// at is a client of a user, which begins at this address.
func (r *rig) at(address string, credential chatapi.Credential) *chatapi.Client {
	r.Helper()
	client, err := chatapi.New(address, credential, nil)
	must(r.T, err)
	r.Cleanup(client.Close)
	return client
}

func (r *rig) atFirst(userID string) *chatapi.Client {
	r.Helper()
	return r.at(r.url, chatapi.APIKey(r.apiKey, userID))
}

func (b *inbox) hasNoReset() {
	b.r.Helper()
	equal(b.r.T, len(b.find(isType("sync.reset"))), 0)
}

func init() {
	cases["calls_follow_the_tenant"] = func(t *testing.T) {
		r := newRig(t)
		before, alice := r.atFirst("alice"), r.atFirst("alice")
		room := r.group("alice", "bob")
		mine := chatapi.Draft{Content: "one", ClientMessageID: "mine"}
		first, err := alice.SendMessage(r.ctx, room, mine)
		must(t, err)
		_, err = alice.SendMessage(r.ctx, room, chatapi.Text("two"))
		must(t, err)
		page, err := alice.ListMessages(r.ctx, room, chatapi.HistoryQuery{Limit: 1})
		must(t, err)
		r.move()
		again, err := alice.SendMessage(r.ctx, room, mine)
		must(t, err)
		equal(t, []any{again.MessageID, again.Seq}, []any{first.MessageID, 1})
		made, err := alice.CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.Group, Members: []string{"alice"}})
		must(t, err)
		rooms, err := alice.ListRooms(r.ctx, chatapi.RoomQuery{})
		must(t, err)
		var ids []string
		for _, one := range rooms.Rooms {
			ids = append(ids, one.RoomID)
		}
		wanted := []string{room, made.RoomID}
		slices.Sort(ids)
		slices.Sort(wanted)
		equal(t, ids, wanted)
		equal(t, alice.URL(), setting("OTHER"))
		older, err := alice.ListMessages(r.ctx, room, chatapi.HistoryQuery{BeforeSeq: chatapi.Set(page.Messages[0].Seq)})
		must(t, err)
		equal(t, contents(append(older.Messages, page.Messages...)), []string{"one", "two"})
		r.move()
		for i, client := range []*chatapi.Client{alice, before, r.atFirst("alice")} {
			sent, err := client.SendMessage(r.ctx, room, chatapi.Text(fmt.Sprint(i+3)))
			must(t, err)
			equal(t, sent.Seq, i+3)
		}
		equal(t, contents(r.stored(room)), []string{"one", "two", "3", "4", "5"})
	}

	cases["connections_follow_the_tenant"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		texts := numbered("message", 60)
		var sending []*chatapi.Delivery
		for _, text := range texts {
			delivery, err := alice.conn.Post(r.ctx, room, chatapi.Text(text))
			must(t, err)
			sending = append(sending, delivery)
		}
		for _, last := range []int{20, 40, 60} {
			_, err := sending[last-1].Wait(r.ctx)
			must(t, err)
			r.move()
		}
		got := bob.messages(room, 60)
		equal(t, contents(got), texts)
		equal(t, seqs(got), upTo(60))
		equal(t, contents(r.stored(room)), texts)
		sent, err := bob.conn.Send(r.ctx, room, chatapi.Text("back"))
		must(t, err)
		equal(t, sent.Seq, 61)
		for _, box := range []*inbox{alice, bob} {
			equal(t, seqs(box.messages(room, 61)), upTo(61))
			r.eventually(func() bool { return box.conn.State() == chatapi.StateLive })
		}
	}

	cases["move_is_told_with_its_address"] = func(t *testing.T) {
		r := newRig(t)
		r.group("alice", "bob")
		client := r.atFirst("bob")
		bob := r.attach(client, chatapi.ConnectOptions{}, nil)
		r.move()
		told := bob.until(1, isType("server.shutdown"))[0].(*chatapi.ShutdownEvent)
		equal(t, told.URL, setting("OTHER"))
		bob.until(2, isType("sync.complete"))
		equal(t, client.URL(), setting("OTHER"))
		bob.hasNoReset()
	}

	cases["those_who_were_away_find_the_tenant"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		bob, device := r.connect("bob"), r.connectWith("bob", chatapi.ConnectOptions{KeepUnacknowledged: true}, nil)
		for _, text := range numbered("before", 3) {
			r.send("alice", room, text)
		}
		bob.messages(room, 3)
		device.messages(room, 3)
		r.eventually(func() bool { return device.conn.Cursors().Rooms[room] == 3 }) // the loop has asked for what follows
		must(t, bob.conn.Pause(r.ctx))
		device.conn.Close()
		cursors := device.conn.Cursors()
		r.move()
		for _, text := range numbered("meanwhile", 4) {
			r.send("alice", room, text)
		}
		bob.conn.Resume()
		back := r.attach(r.atFirst("bob"), chatapi.ConnectOptions{Cursors: &cursors}, nil)
		equal(t, seqs(bob.messages(room, 7)), upTo(7))
		equal(t, seqs(back.messages(room, 4)), []int64{4, 5, 6, 7})
		bob.hasNoReset()
		back.hasNoReset()
	}

	cases["stream_outlasts_a_move"] = func(t *testing.T) {
		r := newRig(t)
		room, other := r.group("alice", "bob"), r.group("carol", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		streams := []*writing{r.write(alice.conn, room, chatapi.Draft{}), r.write(r.client("carol"), other, chatapi.Draft{})}
		growing := []*chatapi.GrowingMessage{bob.follow(room, 1), bob.follow(other, 1)}
		text := ""
		for _, piece := range []string{"before ", "away "} {
			text += piece
			for i, stream := range streams {
				stream.put(piece)
				grownTo(t, growing[i], text)
			}
			text += "during "
			moved := make(chan struct{})
			go func() { defer close(moved); r.move() }()
			for _, stream := range streams {
				stream.put("during ")
			}
			<-moved
		}
		text += "after"
		for i, stream := range streams {
			stream.put("after")
			close(stream.pieces)
			message, err := stream.done()
			must(t, err)
			equal(t, show(*message), []string{text, "done"})
			last, err := growing[i].Finished(r.ctx)
			must(t, err)
			equal(t, show(last), []string{text, "done"})
		}
	}

	cases["user_token_outlasts_a_move"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		var clients []*chatapi.Client
		for range 2 {
			made, err := r.client("alice").CreateToken(r.ctx, chatapi.TokenRequest{})
			must(t, err)
			clients = append(clients, r.at(r.url, chatapi.Token(made.Token)))
		}
		alice := r.attach(clients[0], chatapi.ConnectOptions{}, nil)
		r.move()
		sent, err := alice.conn.Send(r.ctx, room, chatapi.Text("over the connection"))
		must(t, err)
		equal(t, sent.Seq, 1)
		message, err := clients[1].SendMessage(r.ctx, room, chatapi.Text("over REST"))
		must(t, err)
		equal(t, message.Seq, 2)
		again := r.attach(clients[1], chatapi.ConnectOptions{}, nil)
		sent, err = again.conn.Send(r.ctx, room, chatapi.Text("over another connection"))
		must(t, err)
		equal(t, sent.Seq, 3)
		equal(t, seqs(alice.messages(room, 3)), upTo(3))
	}

	cases["wrong_addresses_are_not_followed"] = func(t *testing.T) {
		r := newRig(t)
		alice := r.at(setting("PROXY"), chatapi.APIKey(r.apiKey, "alice"))
		box := r.attach(alice, chatapi.ConnectOptions{}, nil)
		for _, one := range shared.Moves {
			if address, isText := one.URL.(string); isText {
				client, wanted := r.at(one.From, chatapi.Token("t")), one.From
				if one.GoesOnAt != nil {
					wanted = *one.GoesOnAt
				}
				equal(t, []any{one.About, chatapi.MoveTo(client, address), client.URL()}, []any{one.About, one.GoesOnAt != nil, wanted})
			}
			if one.GoesOnAt != nil || one.From != "http://one.example" {
				continue
			}
			intercept(t, "GET", "/v1/rooms", moved(one.URL))
			_, err := alice.ListRooms(r.ctx, chatapi.RoomQuery{})
			equal(t, refused(t, err, chatapi.CodeTenantMoved, 421).Details["url"], one.URL)
			equal(t, []any{alice.URL(), answersLeft(t)}, []any{setting("PROXY"), 0})
			_, err = alice.ListRooms(r.ctx, chatapi.RoomQuery{})
			must(t, err)
		}
		method, path := opening()
		intercept(t, method, path, moved("ftp://two.example"))
		refused(t, box.comeBack(), chatapi.CodeTenantMoved, 421)
		equal(t, answersLeft(t), 0)
	}

	cases["servers_that_name_each_other_are_given_up"] = func(t *testing.T) {
		r := newRig(t)
		alice := r.at(setting("PROXY"), chatapi.APIKey(r.apiKey, "alice"))
		box := r.attach(alice, chatapi.ConnectOptions{}, nil)
		nameEachOther := func(method, path string) {
			for range (chatapi.MaxHops + 1) / 2 {
				intercept(t, method, "^"+path, moved(setting("PROXY")+"/b"))
				intercept(t, method, "^/b"+path, moved(setting("PROXY")))
			}
		}
		nameEachOther("GET", "/v1/rooms/")
		_, err := alice.GetRoom(r.ctx, "room_a")
		refused(t, err, chatapi.CodeTenantMoved, 421)
		equal(t, answersLeft(t), 0)
		method, path := opening()
		nameEachOther(method, path)
		refused(t, box.comeBack(), chatapi.CodeTenantMoved, 421)
		equal(t, answersLeft(t), 0)
	}
}

// opening is the first request of a connection.
func opening() (method, path string) {
	switch os.Getenv("CHATAPI_TEST_TRANSPORT") {
	case "sse":
		return "GET", "/v1/events/stream"
	case "poll":
		return "POST", "/v1/sync"
	}
	return "GET", "/v1/ws"
}

func moved(address any) string {
	refusal := map[string]any{"code": "TENANT_MOVED", "message": "moved", "details": map[string]any{"url": address}}
	body, _ := json.Marshal(map[string]any{"success": false, "data": nil, "error": refusal})
	head := "HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
	return fmt.Sprintf("%s%d\r\n\r\n%s", head, len(body), body)
}

// comeBack opens the connection once more, and is the error with which it ends.
func (b *inbox) comeBack() error {
	b.r.Helper()
	must(b.r.T, b.conn.Pause(b.r.ctx))
	b.conn.Resume()
	b.r.eventually(func() bool { return b.conn.State() == chatapi.StateClosed })
	return b.conn.Err()
}
