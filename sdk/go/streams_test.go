package chatapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

// streamer is a client, over REST, or a connection.
type streamer interface {
	Stream(context.Context, string, chatapi.Draft, chatapi.Source) (*chatapi.Message, error)
}

// writing is a stream that is being written with the pieces that a test puts into it.
type writing struct {
	r       *rig
	pieces  chan string
	ended   chan struct{} // the source has
	stop    context.CancelFunc
	result  chan struct{}
	message *chatapi.Message
	err     error
}

func (r *rig) write(writer streamer, room string, draft chatapi.Draft) *writing {
	w := &writing{r: r, pieces: make(chan string, 10), ended: make(chan struct{}), result: make(chan struct{})}
	ctx, stop := context.WithCancel(r.ctx)
	w.stop = stop
	r.Cleanup(stop)
	source := func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			defer close(w.ended)
			for {
				select {
				case piece, ok := <-w.pieces:
					if !ok || !yield(piece, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}
	}
	go func() {
		defer close(w.result)
		w.message, w.err = writer.Stream(ctx, room, draft, source)
	}()
	return w
}

func (w *writing) put(pieces ...string) {
	for _, piece := range pieces {
		w.pieces <- piece
	}
}

func (w *writing) done() (*chatapi.Message, error) {
	w.r.Helper()
	select {
	case <-w.result:
	case <-time.After(patience):
		w.r.Fatal("the stream does not end")
	}
	return w.message, w.err
}

func (w *writing) hasEnded() {
	w.r.Helper()
	select {
	case <-w.ended:
	default:
		w.r.Fatal("the source has not ended")
	}
}

// follow is the newest of so many messages of a room, as it grows.
func (b *inbox) follow(room string, count int) *chatapi.GrowingMessage {
	b.r.Helper()
	return b.conn.Follow(*b.messages(room, count)[count-1])
}

func grownTo(t *testing.T, growing *chatapi.GrowingMessage, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for shown, err := range growing.Text(ctx) {
		must(t, err)
		if !strings.HasPrefix(text, shown) {
			t.Fatalf("%q is no beginning of %q", shown, text)
		}
		if shown == text {
			return
		}
	}
	t.Fatalf("it ended with %q", growing.Message().Content)
}

// show is what a stream holds, and how it has ended.
func show(message chatapi.Message) []string { return []string{message.Content, message.Stream.State} }

func (r *rig) writers(alice *inbox) []streamer { return []streamer{alice.conn, r.client("alice")} }

func finished(events []chatapi.Event) chatapi.Message {
	return events[len(events)-1].(*chatapi.MessageFinishedEvent).Message
}

func init() {
	cases["kept_streams_grow"] = func(t *testing.T) {
		base := map[string]any{"room_id": "r", "message_id": "m", "seq": 1, "created_at": "2025-12-13T12:00:00Z"}
		for _, one := range shared.KeptStreams {
			for times := 1; times <= 2; times++ {
				var message chatapi.Message
				must(t, json.Unmarshal(overlay(t, base, one.Shown), &message))
				for range times {
					for _, data := range one.Events {
						message = chatapi.ApplyEvent(message, parseOver(t, base, data))
					}
				}
				var shows struct {
					Content *string               `json:"content"`
					Stream  *chatapi.StreamStatus `json:"stream"`
				}
				must(t, json.Unmarshal(one.Shows, &shows))
				if shows.Content == nil {
					equal(t, []any{message.Content, message.DeletedAt != nil}, []any{"", true})
				} else {
					equal(t, message.Content, *shows.Content)
				}
				equal(t, message.Stream, shows.Stream)
				equal(t, message.Seq, 1)
			}
		}
	}

	cases["stream_is_written_and_followed"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		for i, writer := range r.writers(alice) {
			stream := r.write(writer, room, chatapi.Draft{Meta: map[string]any{"model": "none"}})
			growing := bob.follow(room, i+1)
			for _, step := range [][2]string{{"One", "One"}, {", two", "One, two"}, {", three", "One, two, three"}} {
				stream.put(step[0])
				grownTo(t, growing, step[1])
			}
			equal(t, growing.IsOpen(), true)
			close(stream.pieces)
			message, err := stream.done()
			must(t, err)
			last, err := growing.Finished(r.ctx)
			must(t, err)
			equal(t, show(*message), []string{"One, two, three", "done"})
			equal(t, show(last), show(*message))
			stored, err := r.client("bob").GetMessage(r.ctx, room, message.MessageID)
			must(t, err)
			equal(t, []any{message.Seq, message.Content, message.Meta}, []any{stored.Seq, stored.Content, stored.Meta})
			var texts []string
			for text, err := range bob.conn.Follow(*message).Text(r.ctx) {
				must(t, err)
				texts = append(texts, text)
			}
			equal(t, texts, []string{"One, two, three"})
		}
	}

	cases["stream_outlasts_a_kill"] = func(t *testing.T) {
		r := newRig(t)
		room, other := r.group("alice", "bob"), r.group("carol", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		streams := []*writing{r.write(alice.conn, room, chatapi.Draft{}), r.write(r.client("carol"), other, chatapi.Draft{})}
		growing := []*chatapi.GrowingMessage{bob.follow(room, 1), bob.follow(other, 1)}
		for i, stream := range streams {
			stream.put("before ")
			grownTo(t, growing[i], "before ")
		}
		control(t, "kill")
		for _, stream := range streams {
			stream.put("during ")
		}
		control(t, "start")
		for i, stream := range streams {
			stream.put("after")
			close(stream.pieces)
			message, err := stream.done()
			must(t, err)
			equal(t, show(*message), []string{"before during after", "done"})
			last, err := growing[i].Finished(r.ctx)
			must(t, err)
			equal(t, last.Content, "before during after")
		}
	}

	cases["stream_is_followed_from_the_middle"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, carol := r.connect("alice"), r.connect("bob")
		stream := r.write(alice.conn, room, chatapi.Draft{})
		grownTo(t, carol.follow(room, 1), "")
		stream.put("one")
		grownTo(t, carol.follow(room, 1), "one")
		page, err := r.client("bob").ListMessages(r.ctx, room, chatapi.HistoryQuery{})
		must(t, err)
		found := page.Messages[0]
		stream.put(" and a half")
		grownTo(t, carol.follow(room, 1), "one and a half")
		bob := r.connect("bob")
		for _, box := range []*inbox{carol, bob} {
			grownTo(t, box.conn.Follow(found), "one and a half")
		}
		growing := bob.conn.Follow(found)
		must(t, bob.conn.Pause(r.ctx))
		stream.put(", two")
		grownTo(t, carol.follow(room, 1), "one and a half, two")
		bob.conn.Resume()
		grownTo(t, growing, "one and a half, two")
		stream.put(", three")
		grownTo(t, growing, "one and a half, two, three")
		bob.conn.Close()
		last, err := growing.Finished(r.ctx)
		must(t, err)
		equal(t, last.Stream.State, "open")
		close(stream.pieces)
		_, err = stream.done()
		must(t, err)
		carol.until(1, isType("message.finished"))
		last, err = carol.conn.Follow(found).Finished(r.ctx)
		must(t, err)
		equal(t, show(last), []string{"one and a half, two, three", "done"})
	}

	cases["stream_is_cancelled_by_a_member"] = func(t *testing.T) {
		defer chatapi.SetSignOfLife(2 * patience)() // so that no answer tells of it
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		stream := r.write(alice.conn, room, chatapi.Draft{})
		stream.put("one")
		growing := bob.follow(room, 1)
		grownTo(t, growing, "one")
		id := growing.Message().MessageID
		must(t, bob.conn.Cancel(r.ctx, room, id))
		message, err := stream.done()
		must(t, err)
		stream.hasEnded()
		equal(t, show(*message), []string{"one", "cancelled"})
		event := alice.until(1, isType("message.cancel_requested"))[0].(*chatapi.MessageCancelRequestedEvent)
		equal(t, []string{event.MessageID, event.UserID}, []string{id, "bob"})
		err = r.client("bob").CancelMessage(r.ctx, room, id)
		equal(t, refused(t, err, chatapi.CodeConflict, 409).Details, map[string]any{"index": 1, "state": "cancelled"})

		stream = r.write(r.client("alice"), room, chatapi.Draft{})
		stream.put("one")
		growing = bob.follow(room, 2)
		grownTo(t, growing, "one")
		must(t, r.client("bob").CancelMessage(r.ctx, room, growing.Message().MessageID))
		stream.put(" two")
		message, err = stream.done()
		must(t, err)
		stream.hasEnded()
		equal(t, show(*message), []string{"one two", "cancelled"})
	}

	cases["stream_ends_with_its_source"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		failure := errors.New("no more words")
		failing := chatapi.Chunks(func(yield func(string, error) bool) {
			if yield("one", nil) {
				yield("", failure)
			}
		})
		for i, writer := range r.writers(alice) {
			_, err := writer.Stream(r.ctx, room, chatapi.Draft{}, failing)
			equal(t, errors.Is(err, failure), true)
			equal(t, show(finished(bob.until(i+1, isType("message.finished")))), []string{"one", "failed"})
		}
		reason := chatapi.Chunks(func(yield func(string, error) bool) {
			yield("", &chatapi.StreamFailure{Reason: "no model\x00" + strings.Repeat("!", 2000)})
		})
		for i, meta := range []map[string]any{{"model": "none"}, {"model": strings.Repeat("x", 16_000)}} {
			_, err := r.writers(alice)[i].Stream(r.ctx, room, chatapi.Draft{Meta: meta}, reason)
			equal(t, errors.As(err, new(*chatapi.StreamFailure)), true)
			ended := finished(bob.until(i+3, isType("message.finished")))
			wanted := map[string]any{"model": meta["model"]}
			if i == 0 {
				wanted["error"] = "no model?" + strings.Repeat("!", 991)
			}
			equal(t, []any{ended.Stream.State, ended.Meta}, []any{"failed", wanted})
		}
		for i, writer := range r.writers(alice) {
			draft := chatapi.Draft{ClientMessageID: []string{"cancelled-1", "cancelled-2"}[i]}
			stream := r.write(writer, room, draft)
			stream.put("one")
			grownTo(t, bob.follow(room, i+5), "one")
			stream.stop()
			_, err := stream.done()
			equal(t, errors.Is(err, context.Canceled), true)
			stream.hasEnded()
			ended := finished(bob.until(i+5, isType("message.finished")))
			equal(t, show(ended), []string{"one", "cancelled"})

			again := r.write(writer, room, draft)
			message, err := again.done()
			must(t, err)
			equal(t, message.Content, "one")
			must(t, r.client("alice").DeleteMessage(r.ctx, room, ended.MessageID))
			_, err = r.write(writer, room, draft).done()
			refused(t, err, chatapi.CodeNotFound, 404)
		}
	}

	cases["stream_ends_with_its_connection"] = func(t *testing.T) {
		defer chatapi.SetSignOfLife(time.Hour)()
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		stream := r.write(alice.conn, room, chatapi.Draft{})
		stream.put("one")
		id := bob.messages(room, 1)[0].MessageID
		r.eventually(func() bool { return r.read("bob", room, id).Content == "one" }) // which long polls do not tell
		alice.conn.Close()
		_, err := stream.done()
		equal(t, errors.Is(err, chatapi.ErrClosed), true)
		stream.hasEnded()
		equal(t, show(finished(bob.until(1, isType("message.finished")))), []string{"one", "cancelled"})
	}

	cases["long_text_is_streamed"] = func(t *testing.T) {
		r := newRig(t)
		room := r.group("alice", "bob")
		alice, bob := r.connect("alice"), r.connect("bob")
		text := "x" + strings.Repeat("🚢", 9_000) + strings.Repeat("é", 10_000)
		stream := r.write(alice.conn, room, chatapi.Draft{})
		stream.put("", text[:17_003], "", text[17_003:]) // in the middle of a code point
		close(stream.pieces)
		message, err := stream.done()
		must(t, err)
		equal(t, message.Content, text)

		stream = r.write(r.client("alice"), room, chatapi.Draft{})
		stream.put(strings.Repeat("x", 60_000), strings.Repeat("y", 10_000))
		_, err = stream.done()
		equal(t, refused(t, err, chatapi.CodeValidation, 400).Field, "text")
		ended := finished(bob.until(2, isType("message.finished")))
		equal(t, ended.Stream.State, "failed")
		equal(t, strings.HasPrefix(ended.Content, strings.Repeat("x", 49_152)), true)
	}
}

// overlay is JSON with the fields of base, and then those of data.
func overlay(t *testing.T, base map[string]any, data json.RawMessage) []byte {
	t.Helper()
	fields := map[string]any{}
	for name, value := range base {
		fields[name] = value
	}
	must(t, json.Unmarshal(data, &fields))
	whole, err := json.Marshal(fields)
	must(t, err)
	return whole
}

func parseOver(t *testing.T, base map[string]any, data json.RawMessage) chatapi.Event {
	t.Helper()
	var fields map[string]json.RawMessage
	must(t, json.Unmarshal(overlay(t, base, data), &fields))
	if message, ok := fields["message"]; ok {
		fields["message"] = overlay(t, base, message)
	}
	whole, err := json.Marshal(fields)
	must(t, err)
	event, err := chatapi.ParseEvent(whole)
	must(t, err)
	return event
}
