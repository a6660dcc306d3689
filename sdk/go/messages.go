package chatapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
)

const ackedRooms = 1000 // the most that one call may name

var (
	messageShape  = shape{"message_id": aString}
	messagesShape = shape{"messages": aList}
)

// Draft is a message to be sent. Content has up to 64 KiB of UTF-8, or the tenant's own bound; Meta up to 16 KiB as
// JSON. ReplyTo is a message of the same room, ThreadID the message to which it is a reply in a thread, no reply itself.
// Mentions are up to 50 members; MentionRoom mentions all, for the room's admins. ClientMessageID has up to 64
// characters; one is made if it is empty.
type Draft struct {
	Content         string
	Meta            map[string]any
	ReplyTo         string
	ClientMessageID string
	Mentions        []string
	MentionRoom     bool
	ThreadID        string
}

// Text is a message with this content and nothing else.
func Text(content string) Draft { return Draft{Content: content} }

func (d Draft) fields() map[string]any {
	fields := map[string]any{"content": d.Content, "client_message_id": d.ClientMessageID}
	if d.ClientMessageID == "" {
		fields["client_message_id"] = newID()
	}
	if d.Meta != nil {
		fields["meta"] = d.Meta
	}
	if d.ReplyTo != "" {
		fields["reply_to"] = d.ReplyTo
	}
	if len(d.Mentions) > 0 {
		fields["mentions"] = d.Mentions
	}
	if d.MentionRoom {
		fields["mention_room"] = true
	}
	if d.ThreadID != "" {
		fields["thread_id"] = d.ThreadID
	}
	return fields
}

// newID is 128 random bits, for a request_id or a client_message_id.
func newID() string {
	var bits [16]byte
	_, _ = rand.Read(bits[:]) // never fails
	return hex.EncodeToString(bits[:])
}

// SendMessage stores a message and returns it: once, however often the call has to be tried. 409 if its ClientMessageID
// had another body; 400 (Field says of what); 403 for those who are not members; 404.
func (c *Client) SendMessage(ctx context.Context, roomID string, draft Draft) (*Message, error) {
	return c.sendFields(ctx, roomID, draft.fields())
}

func (c *Client) sendFields(ctx context.Context, roomID string, fields map[string]any) (*Message, error) {
	asked := call{method: http.MethodPost, path: roomPath(roomID) + "/messages", body: fields, repeat: true}
	return get[Message](ctx, &c.caller, asked, messageShape)
}

// HistoryQuery chooses a part of a room's history: messages after AfterSeq, before BeforeSeq, or the newest ones.
type HistoryQuery struct {
	AfterSeq  Optional[int64]
	BeforeSeq Optional[int64]
	Limit     int    // up to 100 (50)
	ThreadID  string // only the replies to that message
	TopLevel  bool   // all but replies
}

// MessagePage is a page of messages. A list by seq has no NextCursor.
type MessagePage struct {
	PageEnd
	Messages []Message `json:"messages"`
}

// ListMessages reads a page of the room's history, ascending by Seq, edits and deletions applied. 400 for both bounds or
// both choices; 403, 404.
func (c *Client) ListMessages(ctx context.Context, roomID string, q HistoryQuery) (*MessagePage, error) {
	values := query{}.number("limit", int64(q.Limit)).text("thread_id", q.ThreadID).flag("top_level", q.TopLevel)
	putSeq(values, "after_seq", q.AfterSeq)
	putSeq(values, "before_seq", q.BeforeSeq)
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/messages", query: values.values()}
	return get[MessagePage](ctx, &c.caller, asked, messagesShape)
}

func putSeq(values query, name string, seq Optional[int64]) {
	if seq.value != nil {
		values.text(name, strconv.FormatInt(*seq.value, 10))
	}
}

// MentionQuery chooses a part of the caller's mentions.
type MentionQuery struct {
	Limit  int    // up to 100 (50)
	Cursor string // the NextCursor of the page before
	Before string // the id of a message, perhaps a deleted one
}

// ListMentions lists the messages that mention the caller, in all rooms that they are in, the newest first. 400 for a
// Before that the caller cannot read.
func (c *Client) ListMentions(ctx context.Context, q MentionQuery) (*MessagePage, error) {
	values := query{}.number("limit", int64(q.Limit)).text("cursor", q.Cursor).text("before", q.Before)
	asked := call{method: http.MethodGet, path: "/mentions", query: values.values()}
	return get[MessagePage](ctx, &c.caller, asked, messagesShape)
}

// GetMessage reads a message as it now stands. 403, 404.
func (c *Client) GetMessage(ctx context.Context, roomID, messageID string) (*Message, error) {
	return get[Message](ctx, &c.caller, call{method: http.MethodGet, path: messagePath(roomID, messageID)}, messageShape)
}

// Edit replaces a message's content; what is not given stays. Bounds as in Draft.
type Edit struct {
	Content     string
	Meta        Optional[map[string]any]
	Mentions    Optional[[]string]
	MentionRoom Optional[bool]
}

func (e Edit) fields() map[string]any {
	fields := map[string]any{"content": e.Content}
	e.Meta.put(fields, "meta")
	e.Mentions.put(fields, "mentions")
	e.MentionRoom.put(fields, "mention_room")
	return fields
}

// EditMessage replaces a message's content, for its sender. 403, 404, also of a deleted message.
func (c *Client) EditMessage(ctx context.Context, roomID, messageID string, edit Edit) (*Message, error) {
	asked := call{method: http.MethodPut, path: messagePath(roomID, messageID), body: edit.fields()}
	return get[Message](ctx, &c.caller, asked, messageShape)
}

// DeleteMessage deletes a message's content and leaves a tombstone; deleting it again changes nothing. For its sender and
// the room's admins. 403, 404.
func (c *Client) DeleteMessage(ctx context.Context, roomID, messageID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: messagePath(roomID, messageID)}, nil, nil)
}

// MarkRead marks the room as read up to seq, which acknowledges as far; a lower one than before changes nothing. 400
// above the room's LastSeq; 403, 404.
func (c *Client) MarkRead(ctx context.Context, roomID string, seq int64) (*Position, error) {
	body := map[string]any{"seq": seq}
	asked := call{method: http.MethodPost, path: roomPath(roomID) + "/read", body: body, repeat: true}
	return get[Position](ctx, &c.caller, asked, shape{"seq": anInt})
}

// Ack acknowledges the room's events up to seq; a lower one than before changes nothing. 400 above the room's LastSeq;
// 403, 404.
func (c *Client) Ack(ctx context.Context, roomID string, seq int64) (*Position, error) {
	body := map[string]any{"room_id": roomID, "seq": seq}
	asked := call{method: http.MethodPost, path: "/acks", body: body, repeat: true}
	return get[Position](ctx, &c.caller, asked, shape{"seq": anInt})
}

// RoomAcks are, by room, where the caller now stands, and why a room was refused.
type RoomAcks struct {
	Rooms  map[string]int64
	Errors map[string]*APIError
}

// AckRooms acknowledges many rooms, in calls of 1,000 each. Each room is judged on its own.
func (c *Client) AckRooms(ctx context.Context, seqs map[string]int64) (*RoomAcks, error) {
	stand := &RoomAcks{map[string]int64{}, map[string]*APIError{}}
	part := map[string]int64{}
	left := len(seqs)
	for roomID, seq := range seqs {
		part[roomID] = seq
		left--
		if len(part) < ackedRooms && left > 0 {
			continue
		}
		if err := c.ackPart(ctx, part, stand); err != nil {
			return stand, err
		}
		clear(part)
	}
	return stand, nil
}

func (c *Client) ackPart(ctx context.Context, part map[string]int64, stand *RoomAcks) error {
	var page struct {
		Rooms  map[string]int64           `json:"rooms"`
		Errors map[string]json.RawMessage `json:"errors"`
	}
	asked := call{method: http.MethodPost, path: "/acks", body: map[string]any{"rooms": part}, repeat: true}
	if err := c.ask(ctx, asked, shape{"rooms": anObject, "errors": anObject}, &page); err != nil {
		return err
	}
	for roomID, seq := range page.Rooms {
		stand.Rooms[roomID] = seq
	}
	for roomID, data := range page.Errors {
		stand.Errors[roomID] = parseError(data, 0, 0)
	}
	return nil
}

// ReceiptPage is a page of receipts.
type ReceiptPage struct {
	PageEnd
	Receipts []Receipt `json:"receipts"`
}

// ListReceipts lists how far each member has come, for members. 403, 404.
func (c *Client) ListReceipts(ctx context.Context, roomID string, page Page) (*ReceiptPage, error) {
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/receipts", query: page.query().values()}
	return get[ReceiptPage](ctx, &c.caller, asked, shape{"receipts": aList})
}

// LogPage is a page of a room's log.
type LogPage struct {
	Events  []Event
	HasMore bool
}

// ListEvents reads a page of the room's log after afterSeq, ascending: messages, edits, deletions, reactions, pins,
// changes of the room and its members, and what a newer server adds. Messages are shown as they now stand. limit: 1 to
// 100; 0 stands for 50. 403, 404.
func (c *Client) ListEvents(ctx context.Context, roomID string, afterSeq int64, limit int) (*LogPage, error) {
	frames, hasMore, err := c.listFrames(ctx, roomID, afterSeq, limit)
	if err != nil {
		return nil, err
	}
	page := &LogPage{HasMore: hasMore}
	for _, frame := range frames {
		page.Events = append(page.Events, newEvent(frame))
	}
	return page, nil
}

func (c *Client) listFrames(ctx context.Context, roomID string, afterSeq int64, limit int) ([]*frame, bool, error) {
	var page struct {
		Events  []json.RawMessage `json:"events"`
		HasMore bool              `json:"has_more"`
	}
	values := query{}.number("limit", int64(limit)).text("after_seq", strconv.FormatInt(afterSeq, 10))
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/events", query: values.values()}
	if err := c.ask(ctx, asked, shape{"events": aList, "has_more": aBool}, &page); err != nil {
		return nil, false, err
	}
	frames, lastSeq := make([]*frame, 0, len(page.Events)), afterSeq
	for _, data := range page.Events {
		frame, err := parseFrame(data)
		if err != nil || !frame.isLogged() || frame.roomID() != roomID || frame.seq() <= lastSeq {
			return nil, false, &NotChatAPIError{Call: asked.name(), HTTPStatus: 200, Reason: "other events than those asked for"}
		}
		lastSeq = frame.seq()
		frames = append(frames, frame)
	}
	if page.HasMore && lastSeq == afterSeq {
		return nil, false, &NotChatAPIError{Call: asked.name(), HTTPStatus: 200, Reason: "a page without events that is not the last"}
	}
	return frames, page.HasMore, nil
}
