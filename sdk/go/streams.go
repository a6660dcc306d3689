package chatapi

import (
	"context"
	"errors"
	"time"
)

const (
	streamPatience  = time.Minute // without an answer: by then the server has given the stream up
	streamRetryBase = 100 * time.Millisecond
	streamRetryCap  = 5 * time.Second
)

// Stream writes a message with the text of a source, while everybody in the room sees it grow, and returns the message
// once it has ended: Stream.State is StreamDone, or StreamCancelled if another member has asked for that; then the
// source's context ends at once.
//
// Requests without an answer are tried again for a minute, as while the server restarts; nothing is stored twice. If the
// source fails, the stream ends as StreamFailed, and Stream with the same error; a *[StreamFailure] also tells the room
// why. If the context ends, the stream ends as StreamCancelled.
// With the ClientMessageID of an open stream this goes on where that stopped. 400 (Field: text) beyond the bound of a
// message; 409 when the stream has ended meanwhile; 429 for too many open streams; 403, 404.
func (c *Client) Stream(ctx context.Context, roomID string, draft Draft, source Source) (*Message, error) {
	if draft.ClientMessageID == "" {
		draft.ClientMessageID = newID()
	}
	writer := newStreamWriter(streamTransport{
		open: func(ctx context.Context) (*Sent, error) {
			return sentOf(c.OpenStream(ctx, roomID, draft))
		},
		append: func(ctx context.Context, messageID string, index int, text string) (*AppendAnswer, error) {
			return insist(ctx, func() (*AppendAnswer, error) { return c.AppendToMessage(ctx, roomID, messageID, index, text) })
		},
		finish: func(ctx context.Context, messageID string, end Finish) (*Message, error) {
			return insist(ctx, func() (*Message, error) { return c.FinishMessage(ctx, roomID, messageID, end) })
		},
	}, draft.Meta)
	return writer.run(ctx, source, func() {})
}

func sentOf(message *Message, err error) (*Sent, error) {
	if err != nil {
		return nil, err
	}
	return &Sent{
		message.RoomID, message.MessageID, message.Seq, message.ClientMessageID, message.CreatedAt, message.Stream,
	}, nil
}

// insist tries for as long as the stream may live without a word of its sender.
func insist[T any](ctx context.Context, call func() (T, error)) (T, error) {
	until := time.Now().Add(streamPatience)
	for attempt := 0; ; attempt++ {
		result, err := call()
		if !errors.Is(err, ErrNoAnswer) || ctx.Err() != nil || time.Now().After(until) {
			return result, err
		}
		var foreign *NotChatAPIError
		var asked time.Duration
		if errors.As(err, &foreign) {
			asked = min(foreign.RetryAfter, streamRetryCap)
		}
		if err := pause(ctx, max(asked, fullJitter(attempt, streamRetryBase, streamRetryCap))); err != nil {
			return result, err
		}
	}
}

// Stream is as [Client.Stream], over this connection: it goes on after each reconnect, however long that takes, and hears
// at once of a member who wants it to end. If the connection is closed, the stream ends as StreamCancelled.
func (c *Connection) Stream(ctx context.Context, roomID string, draft Draft, source Source) (*Message, error) {
	fields := draft.fields()
	fields["stream"] = true
	var writer *streamWriter
	writer = newStreamWriter(streamTransport{
		open: func(ctx context.Context) (*Sent, error) {
			return c.deliver(ctx, c.takeTurn(roomID), roomID, fields)
		},
		append: func(ctx context.Context, messageID string, index int, text string) (*AppendAnswer, error) {
			got := &AppendAnswer{}
			frame := with(map[string]any{"index": index, "text": text}, "message.append", roomID, messageID)
			return got, c.requestInto(ctx, frame, 0, got)
		},
		finish: func(ctx context.Context, messageID string, end Finish) (*Message, error) {
			if c.State() == StateClosed {
				return c.client.FinishMessage(ctx, roomID, messageID, end)
			}
			got, err := c.request(ctx, with(end.fields(), "message.finish", roomID, messageID), 0)
			if err != nil {
				return nil, err
			}
			return messageOf(got)
		},
	}, draft.Meta)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.writers, writer.messageID)
	}()
	return writer.run(ctx, source, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writers[writer.messageID] = writer
		if c.state == StateClosed {
			writer.cutOff()
		}
	})
}
