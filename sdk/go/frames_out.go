package chatapi

import (
	"context"
	"encoding/json"
	"time"
)

// Delivery is a message on its way.
type Delivery struct {
	clientMessageID string
	done            chan struct{}
	sent            *Sent
	err             error
}

// ClientMessageID is the message's, also if it was made by the SDK.
func (d *Delivery) ClientMessageID() string { return d.clientMessageID }

// Wait returns when the message is stored or refused; see Connection.Send for the errors.
func (d *Delivery) Wait(ctx context.Context) (*Sent, error) {
	select {
	case <-d.done:
		return d.sent, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Send sends a message and returns when it is stored. It is tried, across reconnects and restarts, until the server has
// confirmed or refused it, or the context ends; it is stored once in any case. Messages to one room are stored in the
// order of the calls.
//
// It fails with *[APIError] when the message is refused: 409 when its ClientMessageID had another body, 400 (Field says
// of what), 403 for those who are not members, 404. If the context ends or the connection is closed first, the error is
// an *[UnconfirmedError].
func (c *Connection) Send(ctx context.Context, roomID string, draft Draft) (*Sent, error) {
	delivery, err := c.Post(ctx, roomID, draft)
	if err != nil {
		return nil, err
	}
	<-delivery.done // which ends with the context
	return delivery.sent, delivery.err
}

// Post sends a message as Send does, without waiting for it to be stored: its place in the room's order is that of this
// call. The context bounds the message's whole way. Post itself waits while 1,000 messages of the connection are on
// their way.
func (c *Connection) Post(ctx context.Context, roomID string, draft Draft) (*Delivery, error) {
	waiting, cancel := c.whileOpen(ctx)
	defer cancel()
	fields := draft.fields()
	delivery := &Delivery{clientMessageID: fields["client_message_id"].(string), done: make(chan struct{})}
	select {
	case c.slots <- struct{}{}:
	case <-waiting.Done():
		return nil, &UnconfirmedError{delivery.clientMessageID, context.Cause(waiting)}
	}
	turn := c.takeTurn(roomID)
	c.mu.Lock()
	c.typist.forget(roomID)
	c.mu.Unlock()
	c.spawn(func() {
		defer close(delivery.done)
		defer func() { <-c.slots }()
		delivery.sent, delivery.err = c.deliver(ctx, turn, roomID, fields)
		if _, isRefusal := asRefusal(delivery.err); delivery.err != nil && !isRefusal {
			delivery.err = &UnconfirmedError{delivery.clientMessageID, delivery.err}
		}
	})
	return delivery, nil
}

func (c *Connection) deliver(ctx context.Context, turn *turn, roomID string, fields map[string]any) (*Sent, error) {
	defer turn.end()
	if err := turn.wait(ctx); err != nil {
		return nil, err
	}
	sent := &Sent{}
	if fits(fields) {
		frame := with(fields, "send_message", roomID, "")
		return sent, c.requestInto(ctx, frame, 0, sent)
	}
	err := c.callPatiently(ctx, func(ctx context.Context) error {
		message, err := c.client.sendFields(ctx, roomID, fields)
		if err == nil {
			*sent = Sent{message.RoomID, message.MessageID, message.Seq, message.ClientMessageID, message.CreatedAt, message.Stream}
		}
		return err
	})
	return sent, err
}

func with(fields map[string]any, kind, roomID, messageID string) map[string]any {
	frame := map[string]any{"type": kind, "room_id": roomID}
	if messageID != "" {
		frame["message_id"] = messageID
	}
	for name, value := range fields {
		frame[name] = value
	}
	return frame
}

func (c *Connection) requestInto(ctx context.Context, fields map[string]any, most int, result any) error {
	got, err := c.request(ctx, fields, most)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(got.data, result); err != nil {
		return &NotChatAPIError{Call: got.kind, Reason: "an answer of another form"}
	}
	return nil
}

// inTurn does something in order with the messages, edits and deletions of the room.
func (c *Connection) inTurn(ctx context.Context, roomID string, do func() error) error {
	turn := c.takeTurn(roomID)
	defer turn.end()
	if err := turn.wait(ctx); err != nil {
		return err
	}
	return do()
}

// Edit replaces a message's content, in order with the other messages, edits and deletions of the room, and returns the
// message. 403 for all but its sender; 404, also of a deleted message.
func (c *Connection) Edit(ctx context.Context, roomID, messageID string, edit Edit) (*Message, error) {
	var message *Message
	err := c.inTurn(ctx, roomID, func() error {
		fields := with(edit.fields(), "message.edit", roomID, messageID)
		if fits(fields) {
			got, err := c.request(ctx, fields, frameAttempts)
			if err == nil {
				message, err = messageOf(got)
			}
			return err
		}
		return c.callPatiently(ctx, func(ctx context.Context) (err error) {
			message, err = c.client.EditMessage(ctx, roomID, messageID, edit)
			return err
		})
	})
	return message, err
}

func messageOf(got *frame) (*Message, error) {
	var message Message
	if err := json.Unmarshal(got.data, &message); err != nil {
		return nil, &NotChatAPIError{Call: got.kind, Reason: "an answer of another form"}
	}
	if target := got.fields.number("target_seq"); target != 0 {
		message.Seq = target
	}
	return &message, nil
}

// Delete deletes a message's content and leaves a tombstone, in order with the other messages, edits and deletions of the
// room. 403 for all but its sender and the room's admins; 404.
func (c *Connection) Delete(ctx context.Context, roomID, messageID string) error {
	return c.inTurn(ctx, roomID, func() error {
		return c.requestInto(ctx, with(nil, "message.delete", roomID, messageID), frameAttempts, nil)
	})
}

// React reacts to a message, in order with the messages, edits and deletions of the room. Returns the event; it has no
// Place if the user had reacted so already. 409 for more than 20 emoji of the user, or 50 of all, on one message; 400,
// 403, 404, also of a deleted message.
func (c *Connection) React(ctx context.Context, roomID, messageID, emoji string) (*ReactionEvent, error) {
	return c.react(ctx, "reaction.add", roomID, messageID, emoji)
}

// Unreact takes a reaction of the user back, in the same order. Returns the event; it has no Place if there was none.
// 400, 403, 404.
func (c *Connection) Unreact(ctx context.Context, roomID, messageID, emoji string) (*ReactionEvent, error) {
	return c.react(ctx, "reaction.remove", roomID, messageID, emoji)
}

func (c *Connection) react(ctx context.Context, kind, roomID, messageID, emoji string) (*ReactionEvent, error) {
	var event *ReactionEvent
	err := c.inTurn(ctx, roomID, func() error {
		fields := with(map[string]any{"emoji": emoji}, kind, roomID, messageID)
		got, err := c.request(ctx, fields, frameAttempts)
		if err == nil {
			var ok bool
			if event, ok = newEvent(got).(*ReactionEvent); !ok {
				err = &NotChatAPIError{Call: got.kind, Reason: "an answer of another form"}
			}
		}
		return err
	})
	return event, err
}

// Read marks the room as read up to seq, which acknowledges as far; a lower one than before changes nothing. Returns
// where the user now stands. 400 above the room's newest event; 403, 404.
func (c *Connection) Read(ctx context.Context, roomID string, seq int64) (*Position, error) {
	position := &Position{}
	fields := with(map[string]any{"seq": seq}, "read", roomID, "")
	return position, c.requestInto(ctx, fields, frameAttempts, position)
}

// Ack acknowledges the room's events up to seq, for those who chose KeepUnacknowledged. Returns where the user now
// stands. 400 above the room's newest event; 403, 404.
func (c *Connection) Ack(ctx context.Context, roomID string, seq int64) (*Position, error) {
	position := &Position{}
	fields := with(map[string]any{"seq": seq}, "ack", roomID, "")
	return position, c.requestInto(ctx, fields, frameAttempts, position)
}

// AckNotification acknowledges a notification, for those who chose KeepNotifications. It is sent soon, and once more when
// the notification comes again.
func (c *Connection) AckNotification(notificationID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feed.notifications.acknowledge(notificationID)
	c.feed.signalAcks()
}

// Typing tells the others that the user is typing, or has stopped; call it on every key. It is lost when there is no
// socket.
func (c *Connection) Typing(roomID string, isActive bool) {
	c.mu.Lock()
	socket := c.out.socket
	var fields map[string]any
	if socket != nil {
		fields = c.typist.frame(roomID, isActive)
	}
	c.mu.Unlock()
	if fields != nil {
		socket.send(fields)
	}
}

// Subscribe receives a channel's events without joining it, from now on and across reconnects. A channel that this
// connection, or its cursors, knows already is caught up first. Returns its last seq. 403 when it is no channel; 404.
func (c *Connection) Subscribe(ctx context.Context, roomID string) (int64, error) {
	c.mu.Lock()
	delete(c.feed.book.unwanted, roomID)
	c.feed.book.wanted[roomID] = true
	c.mu.Unlock()
	got, err := c.request(ctx, with(nil, "subscribe", roomID, ""), frameAttempts)
	if err != nil {
		if _, isRefusal := asRefusal(err); isRefusal {
			c.mu.Lock()
			delete(c.feed.book.wanted, roomID)
			c.mu.Unlock()
		}
		return 0, err
	}
	return got.fields.number("last_seq"), nil
}

// Unsubscribe receives no more of this room on this connection. 404.
func (c *Connection) Unsubscribe(ctx context.Context, roomID string) error {
	c.mu.Lock()
	delete(c.feed.book.wanted, roomID)
	c.feed.book.unwanted[roomID] = true
	c.mu.Unlock()
	return c.requestInto(ctx, with(nil, "unsubscribe", roomID, ""), frameAttempts, nil)
}

// Ping measures the way to the server and back.
func (c *Connection) Ping(ctx context.Context) (time.Duration, error) {
	started := time.Now()
	_, err := c.request(ctx, map[string]any{"type": "ping"}, frameAttempts)
	return time.Since(started), err
}

// Cancel asks the sender of a stream to end it, who decides. For all who may post. 409 when it has ended; 403, 404.
func (c *Connection) Cancel(ctx context.Context, roomID, messageID string) error {
	return c.requestInto(ctx, with(nil, "message.cancel", roomID, messageID), frameAttempts, nil)
}
