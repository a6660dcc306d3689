package chatapi_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

// known is what this version knows of a message, except for the time of its deletion, which the event does not tell.
func known(message chatapi.Message) []any {
	return []any{
		message.MessageID, message.Seq, message.Content, message.Meta, message.CreatedAt, message.EditedAt,
		message.DeletedAt != nil, message.Reactions, message.PinnedAt, message.Thread,
	}
}

func (r *rig) read(userID, room, id string) chatapi.Message {
	r.Helper()
	message, err := r.client(userID).GetMessage(r.ctx, room, id)
	must(r.T, err)
	return *message
}

// applyTwice is a kept message after these events, each of which comes twice.
func applyTwice(message chatapi.Message, events []chatapi.Event) chatapi.Message {
	for _, event := range events {
		message = chatapi.ApplyEvent(chatapi.ApplyEvent(message, event), event)
	}
	return message
}

func (r *rig) rooms(userID string, hidden bool) []chatapi.OwnRoom {
	r.Helper()
	page, err := r.client(userID).ListRooms(r.ctx, chatapi.RoomQuery{Hidden: hidden})
	must(r.T, err)
	return page.Rooms
}

// details are those of the refusal.
func details(t *testing.T, err error) map[string]any {
	t.Helper()
	var refusal *chatapi.APIError
	if !errors.As(err, &refusal) {
		t.Fatalf("not refused: %v", err)
	}
	return refusal.Details
}

func (r *rig) mute(room, userID string, seconds int) *chatapi.Member {
	r.Helper()
	member, err := r.client("alice").UpdateMember(r.ctx, room, userID, chatapi.MemberChange{MutedFor: chatapi.Set(seconds)})
	must(r.T, err)
	return member
}

func (r *rig) change(room string, change chatapi.RoomChange) {
	r.Helper()
	_, err := r.client("alice").UpdateRoom(r.ctx, room, change)
	must(r.T, err)
}

func init() {
	cases["moderation_is_told_at_once"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.client("alice"), r.connect("bob")
		r.change(room, chatapi.RoomChange{SlowModeSeconds: chatapi.Set(50)})
		_, err := bob.conn.Send(r.ctx, room, chatapi.Text("one"))
		must(t, err)
		_, err = bob.conn.Send(r.ctx, room, chatapi.Text("two"))
		_, other := r.client("bob").SendMessage(r.ctx, room, chatapi.Text("two"))
		for _, err := range []error{err, other} {
			equal(t, refused(t, err, chatapi.CodeRateLimit, 429).Details["slow_mode_until"] != nil, true)
		}
		until := r.mute(room, "bob", 600).MutedUntil
		_, err = bob.conn.Send(r.ctx, room, chatapi.Text("three"))
		equal(t, details(t, err), map[string]any{"muted_until": until.Format("2006-01-02T15:04:05.000000Z")})
		_, err = alice.BanMember(r.ctx, room, "bob", chatapi.BanTerms{Reason: "spam"})
		must(t, err)
		banned, _ := bob.until(1, isType("member.banned"))[0].Place()
		r.send("alice", room, "without bob")
		equal(t, contents(bob.messages(room, 1)), []string{"one"})
		r.eventually(func() bool { _, isNamed := bob.conn.Cursors().Rooms[room]; return !isNamed })
		must(t, alice.UnbanMember(r.ctx, room, "bob"))
		_, err = alice.AddMember(r.ctx, room, "bob", "")
		must(t, err)
		r.send("alice", room, "welcome back")
		back := bob.messages(room, 2)[1]
		equal(t, []any{back.Content, back.Seq}, []any{"welcome back", banned.Seq + 4})
	}

	cases["kept_messages_show_their_reactions_and_pins"] = func(t *testing.T) {
		showKeptReactions(t)
		r := newRig(t)
		room := r.group("alice", "bob", "carol")
		alice, bob, carol, admin := r.connect("alice"), r.connect("bob"), r.client("carol"), r.client("alice")
		sent, err := alice.conn.Send(r.ctx, room, chatapi.Text("Shall we?"))
		must(t, err)
		id := sent.MessageID
		kept := r.read("bob", room, id)
		for _, isFirst := range []bool{true, false} {
			event, err := alice.conn.React(r.ctx, room, id, "👍")
			must(t, err)
			_, isLogged := event.Place()
			equal(t, isLogged, isFirst)
		}
		_, err = alice.conn.Ping(r.ctx)
		must(t, err)
		equal(t, len(alice.until(1, isType("reaction.added"))), 1)
		reactions, err := carol.AddReaction(r.ctx, room, id, "👍")
		must(t, err)
		equal(t, reactions[0].Count, 2)
		_, err = carol.AddReaction(r.ctx, room, id, ":ship:")
		must(t, err)
		_, err = admin.PinMessage(r.ctx, room, id)
		must(t, err)
		must(t, admin.UnpinMessage(r.ctx, room, id))
		pinned, err := admin.PinMessage(r.ctx, room, id)
		must(t, err)
		restart(t)
		event, err := alice.conn.Unreact(r.ctx, room, id, "👍")
		must(t, err)
		equal(t, event.Count, 1)
		_, err = alice.conn.Edit(r.ctx, room, id, chatapi.Edit{Content: "We shall"})
		must(t, err)
		must(t, carol.RemoveReaction(r.ctx, room, id, "👍"))
		_, err = carol.AddReaction(r.ctx, room, id, "👍")
		must(t, err)
		bob.until(4, isType("reaction.added"))
		kept = applyTwice(kept, bob.find(isLogged))
		equal(t, known(kept), known(r.read("bob", room, id)))
		equal(t, kept.Reactions, []chatapi.ReactionSummary{
			{Emoji: ":ship:", Count: 1, UserIDs: []string{"carol"}}, {Emoji: "👍", Count: 1, UserIDs: []string{"carol"}},
		})
		equal(t, kept.PinnedAt, pinned.PinnedAt)
		pins, err := r.client("bob").ListPins(r.ctx, room, chatapi.Page{})
		must(t, err)
		equal(t, []any{len(pins.Messages), known(pins.Messages[0])}, []any{1, known(kept)})
		page, err := r.client("bob").ListReactions(r.ctx, room, id, chatapi.ReactionQuery{Emoji: "👍", Page: chatapi.Page{Limit: 1}})
		must(t, err)
		equal(t, []any{len(page.Reactions), page.Reactions[0].UserID}, []any{1, "carol"})
		must(t, alice.conn.Delete(r.ctx, room, id))
		kept = applyTwice(kept, bob.until(1, isType("message.deleted")))
		equal(t, known(kept), known(r.read("bob", room, id)))
		pins, err = r.client("bob").ListPins(r.ctx, room, chatapi.Page{})
		must(t, err)
		equal(t, len(pins.Messages), 0)
	}

	cases["profiles_blocks_and_bans"] = showProfiles

	cases["kept_root_shows_its_thread"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob, reader := r.connect("alice"), r.connect("bob"), r.client("bob")
		root, err := alice.conn.Send(r.ctx, room, chatapi.Text("Shall we?"))
		must(t, err)
		start := r.read("bob", room, root.MessageID)
		reply := func(text string, mentions ...string) string {
			draft := chatapi.Draft{Content: text, ThreadID: root.MessageID, Mentions: mentions}
			sent, err := alice.conn.Send(r.ctx, room, draft)
			must(t, err)
			return sent.MessageID
		}
		first := reply("Bob?", "bob")
		second, err := r.client("alice").SendMessage(r.ctx, room, chatapi.Draft{Content: "Or not?", ThreadID: root.MessageID})
		must(t, err)
		restart(t)
		third := reply("Well?")
		mentions, err := reader.ListMentions(r.ctx, chatapi.MentionQuery{})
		must(t, err)
		equal(t, []any{len(mentions.Messages), mentions.Messages[0].MessageID}, []any{1, first})
		equal(t, r.rooms("bob", false)[0].UnreadMentions, 1)
		for i, gone := range []string{second.MessageID, third, first} {
			must(t, alice.conn.Delete(r.ctx, room, gone))
			bob.until(i+1, isType("message.deleted"))
			kept := applyTwice(start, bob.find(isLogged))
			equal(t, known(kept), known(r.read("bob", room, root.MessageID)))
			if left := 2 - i; left > 0 {
				equal(t, kept.Thread.ReplyCount, left)
			} else {
				equal(t, kept.Thread, nil)
			}
		}
		reply("Again")
		page, err := reader.ListMessages(r.ctx, room, chatapi.HistoryQuery{ThreadID: root.MessageID})
		must(t, err)
		equal(t, contents(page.Messages), []string{"", "", "", "Again"})
		page, err = reader.ListMessages(r.ctx, room, chatapi.HistoryQuery{TopLevel: true})
		must(t, err)
		equal(t, contents(page.Messages), []string{"Shall we?"})
		view, err := reader.UpdateView(r.ctx, room, chatapi.ViewChange{Notify: chatapi.Set("mentions")})
		must(t, err)
		equal(t, []any{view.Notify, view.Hidden}, []any{"mentions", false})
		equal(t, bob.until(1, isType("room.me"))[0].(*chatapi.RoomMeEvent).Notify, "mentions")
	}

	cases["conversation_is_caught_up"] = showCaughtUp
	cases["rules_outlast_a_kill"] = showRules

	cases["hidden_room_comes_back"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		devices := []*inbox{r.connect("bob"), r.connect("bob")}
		change := chatapi.ViewChange{Notify: chatapi.Set("none"), Hidden: chatapi.Set(true)}
		_, err := r.client("bob").UpdateView(r.ctx, room, change)
		must(t, err)
		isView := func(hidden bool) func(chatapi.Event) bool {
			return func(event chatapi.Event) bool {
				view, ok := event.(*chatapi.RoomMeEvent)
				return ok && view.RoomID == room && view.Notify == "none" && view.Hidden == hidden
			}
		}
		for _, device := range devices {
			device.until(1, isView(true))
		}
		restart(t)
		r.send("bob", room, "to myself")
		for _, device := range devices {
			device.messages(room, 1)
		}
		equal(t, len(r.rooms("bob", false)), 0)
		listed := r.rooms("bob", true)[0]
		equal(t, []any{listed.RoomID, listed.Hidden, listed.Notify}, []any{room, true, "none"})
		third := r.connect("bob")
		ready := third.conn.Ready().Rooms
		equal(t, []any{len(ready), ready[0].RoomID, ready[0].Hidden}, []any{1, room, true})
		r.send("alice", room, "bob?")
		for _, device := range append(devices, third) {
			device.until(1, isView(false))
		}
		listed = r.rooms("bob", false)[0]
		equal(t, []any{listed.RoomID, listed.Hidden, listed.Notify}, []any{room, false, "none"})
	}

	cases["reported_messages_and_search"] = showReports
}

func showKeptReactions(t *testing.T) {
	t.Helper()
	for _, one := range shared.KeptMessages {
		for times := 1; times <= 2; times++ {
			message := chatapi.Message{MessageID: "msg_1"}
			must(t, json.Unmarshal(one.Reactions, &message.Reactions))
			for range times {
				for _, fields := range one.Events {
					data, _ := json.Marshal(map[string]any{
						"type": "reaction." + fields[0].(string), "room_id": "r", "message_id": "msg_1",
						"user_id": fields[1], "emoji": fields[2], "count": fields[3],
					})
					event, err := chatapi.ParseEvent(data)
					must(t, err)
					message = chatapi.ApplyEvent(message, event)
				}
			}
			var shows []chatapi.ReactionSummary
			must(t, json.Unmarshal(one.Shows, &shows))
			equal(t, append([]chatapi.ReactionSummary{}, message.Reactions...), shows)
		}
	}
}

func showProfiles(t *testing.T) {
	const odd = "x,y/z"
	r := newRig(t)
	room := r.group("alice", "bob", odd)
	alice, bob, reader := r.connect("alice"), r.connect("bob"), r.client("bob")
	made, err := r.client("alice").PutUser(r.ctx, "alice", chatapi.Profile{
		Name: chatapi.Set("Ålice"), AvatarURL: chatapi.Set("https://a.example/a.png"),
		Metadata: chatapi.Set(map[string]any{"a": 1}),
	})
	must(t, err)
	for _, box := range []*inbox{alice, bob} {
		equal(t, box.until(1, isType("user.updated"))[0].(*chatapi.UserUpdatedEvent).User, made)
	}
	changed, err := r.backend.PutUser(r.ctx, "alice", chatapi.Profile{AvatarURL: chatapi.Null[string]()})
	must(t, err)
	equal(t, []any{changed.Name, changed.AvatarURL, changed.Metadata}, []any{"Ålice", "", map[string]any{"a": 1}})
	oddly, err := r.backend.PutUser(r.ctx, odd, chatapi.Profile{Name: chatapi.Set("Odd")})
	must(t, err)
	users, err := reader.ListUsers(r.ctx, chatapi.UserQuery{IDs: []string{"nobody", odd, "alice"}})
	must(t, err)
	equal(t, users.Users, []any{oddly, changed})
	one, err := reader.GetUser(r.ctx, odd)
	must(t, err)
	equal(t, one, oddly)
	members, err := reader.ListMembers(r.ctx, room, chatapi.MemberQuery{Q: "al"})
	must(t, err)
	equal(t, []any{len(members.Members), members.Members[0].UserID, members.Members[0].Name}, []any{1, "alice", "Ålice"})
	users, err = r.backend.ListUsers(r.ctx, chatapi.UserQuery{Q: "O"})
	must(t, err)
	equal(t, users.Users, []any{oddly})

	dm, err := r.client("alice").CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.DM, Members: []string{"bob"}})
	must(t, err)
	blocked, err := reader.BlockUser(r.ctx, "alice")
	must(t, err)
	blocks, err := reader.ListBlocks(r.ctx, chatapi.Page{})
	must(t, err)
	equal(t, blocks.Blocks, []any{blocked})
	for _, userID := range []string{"alice", "bob"} {
		_, err := r.client(userID).SendMessage(r.ctx, dm.RoomID, chatapi.Text("x"))
		refused(t, err, chatapi.CodeAuthorization, 403)
	}
	must(t, reader.UnblockUser(r.ctx, "alice"))
	r.send("alice", dm.RoomID, "y")

	ban, err := r.backend.BanUser(r.ctx, "bob", chatapi.BanTerms{Reason: "spam", ExpiresIn: 1000 * time.Second})
	must(t, err)
	found, err := r.backend.GetBan(r.ctx, "bob")
	must(t, err)
	equal(t, found, ban)
	until := map[string]any{"banned_until": ban.BannedUntil.Format("2006-01-02T15:04:05.000000Z")}
	_, err = reader.ListRooms(r.ctx, chatapi.RoomQuery{})
	equal(t, details(t, err), until)
	r.eventually(func() bool { bob.mu.Lock(); defer bob.mu.Unlock(); return bob.err != nil })
	equal(t, details(t, bob.err), until)
	equal(t, bob.conn.State(), "closed")
	must(t, r.backend.UnbanUser(r.ctx, "bob"))
	again := r.connect("bob")
	sent, err := alice.conn.Send(r.ctx, room, chatapi.Text("welcome back"))
	must(t, err)
	equal(t, again.messages(room, 1)[0].MessageID, sent.MessageID)
}

func showCaughtUp(t *testing.T) {
	r := newRig(t)
	room := r.group("alice", "bob")
	alice, first := r.client("alice"), r.connect("bob")
	kept := map[string]chatapi.Message{}
	var ids []string
	for _, text := range numbered("message", 3) {
		ids = append(ids, r.send("alice", room, text).MessageID)
	}
	first.messages(room, 3)
	_, err := first.conn.Read(r.ctx, room, 3)
	must(t, err)
	for _, id := range ids {
		kept[id] = r.read("bob", room, id)
	}
	r.eventually(func() bool { return first.conn.Cursors().Rooms[room] == 3 })
	cursors := first.conn.Cursors()
	first.conn.Close()

	edit := chatapi.Edit{Content: "message 1, bob", Mentions: chatapi.Set([]string{"bob"})}
	_, err = alice.EditMessage(r.ctx, room, ids[0], edit)
	must(t, err)
	for _, emoji := range []string{"👍", ":ship:"} {
		_, err = alice.AddReaction(r.ctx, room, ids[0], emoji)
		must(t, err)
	}
	_, err = alice.PinMessage(r.ctx, room, ids[0])
	must(t, err)
	var replies []string
	for _, text := range numbered("reply", 2) {
		draft := chatapi.Draft{Content: text, ThreadID: ids[0], Mentions: []string{"bob"}}
		message, err := alice.SendMessage(r.ctx, room, draft)
		must(t, err)
		replies = append(replies, message.MessageID)
	}
	must(t, alice.DeleteMessage(r.ctx, room, replies[1]))
	must(t, alice.DeleteMessage(r.ctx, room, ids[1]))
	restart(t)
	r.mute(room, "bob", 600)
	r.mute(room, "bob", 0)
	must(t, alice.RemoveReaction(r.ctx, room, ids[0], "👍"))
	must(t, alice.UnpinMessage(r.ctx, room, ids[0]))
	for _, text := range numbered("later", 25) {
		r.send("alice", room, text)
	}
	standing := r.rooms("bob", false)[0]
	equal(t, []any{standing.UnreadCount, standing.UnreadMentions, standing.LastSeq}, []any{26, 1, 40})

	bob := r.connectWith("bob", chatapi.ConnectOptions{Cursors: &cursors}, nil)
	log := bob.find(isLogged)
	equal(t, places(log), upTo(40)[3:])
	for id, message := range kept {
		equal(t, known(applyTwice(message, log)), known(r.read("bob", room, id)))
	}
	_, err = bob.conn.Read(r.ctx, room, 40)
	must(t, err)
	standing = r.rooms("bob", false)[0]
	equal(t, []any{standing.UnreadCount, standing.UnreadMentions}, []any{0, 0})
	mentions, err := r.client("bob").ListMentions(r.ctx, chatapi.MentionQuery{})
	must(t, err)
	equal(t, contents(mentions.Messages), []string{"reply 1", "message 1, bob"})
}

func showRules(t *testing.T) {
	r := newRig(t)
	alice := r.client("alice")
	room := r.group("alice", "bob", "carol", "frank")
	slow, closed := r.group("alice", "bob"), r.group("alice", "bob")
	dm, err := alice.CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.DM, Members: []string{"erin"}})
	must(t, err)
	bob := r.connect("bob")
	_, err = bob.conn.Send(r.ctx, slow, chatapi.Text("one"))
	must(t, err)
	r.change(slow, chatapi.RoomChange{SlowModeSeconds: chatapi.Set(600)})
	r.change(closed, chatapi.RoomChange{Posting: chatapi.Set("admins")})
	try := func(userID, where string) error {
		_, err := r.client(userID).SendMessage(r.ctx, where, chatapi.Text("x"))
		return err
	}
	r.mute(room, "bob", 600)
	_, err = alice.BanMember(r.ctx, room, "carol", chatapi.BanTerms{ExpiresIn: 600 * time.Second})
	must(t, err)
	_, err = r.client("erin").BlockUser(r.ctx, "alice")
	must(t, err)
	_, err = r.backend.BanUser(r.ctx, "frank", chatapi.BanTerms{ExpiresIn: 600 * time.Second})
	must(t, err)
	refusals := [][2]string{
		{"bob", room}, {"bob", slow}, {"bob", closed}, {"carol", room}, {"erin", dm.RoomID}, {"alice", dm.RoomID}, {"frank", room},
	}
	var before []map[string]any
	for _, one := range refusals {
		before = append(before, details(t, try(one[0], one[1])))
	}
	for i, name := range []string{"muted_until", "slow_mode_until", "", "banned_until", "", "", "banned_until"} {
		equal(t, before[i][name] != nil, name != "")
	}
	restart(t)
	for i, one := range refusals {
		equal(t, details(t, try(one[0], one[1])), before[i])
		if one[0] == "bob" {
			_, err := bob.conn.Send(r.ctx, one[1], chatapi.Text("x"))
			equal(t, details(t, err), before[i])
		}
	}
	r.mute(room, "bob", 0)
	r.change(slow, chatapi.RoomChange{SlowModeSeconds: chatapi.Set(0)})
	r.change(closed, chatapi.RoomChange{Posting: chatapi.Set("members")})
	must(t, alice.UnbanMember(r.ctx, room, "carol"))
	_, err = alice.AddMember(r.ctx, room, "carol", "")
	must(t, err)
	must(t, r.client("erin").UnblockUser(r.ctx, "alice"))
	must(t, r.backend.UnbanUser(r.ctx, "frank"))
	for _, one := range refusals {
		must(t, try(one[0], one[1]))
	}
}

func showReports(t *testing.T) {
	r := newRig(t)
	room := r.group("alice", "bob")
	alice, bob := r.client("alice"), r.client("bob")
	id := r.send("alice", room, "The harbour is closed").MessageID
	var reportIDs []string
	for _, reason := range []string{"wrong", "still"} {
		reportID, err := bob.ReportMessage(r.ctx, room, id, reason)
		must(t, err)
		reportIDs = append(reportIDs, reportID)
	}
	equal(t, reportIDs[0], reportIDs[1])
	_, err := alice.EditMessage(r.ctx, room, id, chatapi.Edit{Content: "The Café is open"})
	must(t, err)
	found := func(q string) []chatapi.SearchResult {
		page, err := bob.Search(r.ctx, chatapi.SearchQuery{Q: q, RoomID: room})
		must(t, err)
		return page.Results
	}
	r.eventually(func() bool { return len(found("CAFE")) == 1 })
	snippet := found("open cafe")[0].Snippet
	var hits []string
	for _, hit := range snippet.Hits {
		hits = append(hits, string([]rune(snippet.Text)[hit[0]:hit[1]]))
	}
	equal(t, hits, []string{"Café", "open"})
	equal(t, len(found("harbour")), 0)
	list := func(status string) []chatapi.Report {
		page, err := r.backend.ListReports(r.ctx, chatapi.ReportQuery{Status: status})
		must(t, err)
		return page.Reports
	}
	report := list("")[0]
	equal(t, []any{report.ReportID, report.UserID, report.Reason, report.Message.Content},
		[]any{reportIDs[0], "bob", "wrong", "The harbour is closed"})

	restart(t)
	r.eventually(func() bool { return len(found("CAFE")) == 1 })
	must(t, alice.DeleteMessage(r.ctx, room, id))
	equal(t, len(found("cafe")), 0)
	equal(t, list("open"), []any{report})
	resolved, err := r.backend.ResolveReport(r.ctx, report.ReportID)
	must(t, err)
	equal(t, []any{resolved.Status, resolved.ResolvedBy}, []any{"resolved", "backend"})
	again, err := r.backend.ResolveReport(r.ctx, report.ReportID)
	must(t, err)
	equal(t, again, resolved)
	equal(t, len(list("")), 0)
	equal(t, list("resolved"), []any{resolved})
	token, err := r.backend.CreateToken(r.ctx, chatapi.TokenRequest{UserID: "bob"})
	must(t, err)
	page, err := chatapi.New(r.url, chatapi.Token(token.Token), nil)
	must(t, err)
	defer page.Close()
	_, err = page.ListReports(r.ctx, chatapi.ReportQuery{})
	refused(t, err, chatapi.CodeAuthorization, 403)
	_, err = page.ResolveReport(r.ctx, report.ReportID)
	refused(t, err, chatapi.CodeAuthorization, 403)
}
