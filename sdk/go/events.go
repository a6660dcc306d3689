package chatapi

import (
	"encoding/json"
	"time"
)

// Event is something that a connection hands over: a pointer to one of the types of this file, for a type switch. A
// newer server sends types that are not named here; they come as *[UnknownEvent], unchanged: ignore them.
type Event interface {
	// Type is that of the frame, such as "message.edited".
	Type() string
	// Place is the event's place in its room's log, and false for an event that belongs to none.
	Place() (Place, bool)
	// Raw is the frame as it came, with fields that this SDK does not know.
	Raw() json.RawMessage
}

// Place is a place in a room's log.
type Place struct {
	RoomID string
	Seq    int64
}

// base is what all events have.
type base struct {
	kind     string
	place    Place
	isLogged bool
	data     json.RawMessage
}

func (b *base) Type() string         { return b.kind }
func (b *base) Place() (Place, bool) { return b.place, b.isLogged }
func (b *base) Raw() json.RawMessage { return b.data }
func (b *base) setBase(from base)    { *b = from }

type settable interface {
	Event
	setBase(base)
}

// UnknownEvent is of a type that this SDK does not know, or of a form that it cannot read.
type UnknownEvent struct{ base }

// ReadyEvent comes after each connect, with the user's rooms.
type ReadyEvent struct {
	base
	ConnectionID     string      `json:"connection_id"`
	UserID           string      `json:"user_id"`
	Epoch            string      `json:"epoch"`
	HeartbeatSeconds float64     `json:"heartbeat_seconds"`
	Rooms            []ReadyRoom `json:"rooms"`
}

// ReadyRoom is a room of the user, when the connection began.
type ReadyRoom struct {
	RoomID         string   `json:"room_id"`
	Type           RoomType `json:"type"`
	LastSeq        int64    `json:"last_seq"`
	LastAck        int64    `json:"last_ack"`
	LastRead       int64    `json:"last_read"`
	UnreadMentions int      `json:"unread_mentions"`
	Notify         string   `json:"notify"`
	Hidden         bool     `json:"hidden"`
}

// MessageEvent is a new message.
type MessageEvent struct {
	base
	Message Message
}

// MessageEditedEvent shows the message after the edit: its Seq is the message's own, Place that of the edit.
type MessageEditedEvent struct {
	base
	Message Message
}

// MessageFinishedEvent is the end of a stream, with the whole message: its Seq is the message's own, Place that of the
// end.
type MessageFinishedEvent struct {
	base
	Message Message
}

// MessageDeletedEvent: of a reply it has the thread, and what its root shows from now on, nil if that is nothing.
type MessageDeletedEvent struct {
	base
	RoomID    string         `json:"room_id"`
	MessageID string         `json:"message_id"`
	TargetSeq int64          `json:"target_seq"`
	ThreadID  string         `json:"thread_id"`
	Thread    *ThreadSummary `json:"thread"`
}

// MessageDeltaEvent is text that was appended to an open stream after After, up to Index.
type MessageDeltaEvent struct {
	base
	RoomID    string `json:"room_id"`
	MessageID string `json:"message_id"`
	After     int    `json:"after"`
	Index     int    `json:"index"`
	Text      string `json:"text"`
}

// MessageStateEvent is an open stream as it stands, after the connection has caught up.
type MessageStateEvent struct {
	base
	RoomID  string  `json:"room_id"`
	Message Message `json:"message"`
}

// MessageCancelRequestedEvent says that UserID wants this stream of the connection's user to end.
type MessageCancelRequestedEvent struct {
	base
	RoomID    string `json:"room_id"`
	MessageID string `json:"message_id"`
	UserID    string `json:"user_id"`
}

// ReactionEvent is "reaction.added" or "reaction.removed": Count users have this emoji on the message from now on.
type ReactionEvent struct {
	base
	RoomID    string    `json:"room_id"`
	MessageID string    `json:"message_id"`
	TargetSeq int64     `json:"target_seq"`
	UserID    string    `json:"user_id"`
	Emoji     string    `json:"emoji"`
	Count     int       `json:"count"`
	CreatedAt time.Time `json:"created_at"` // of one that was added
}

// PinEvent is "message.pinned" or "message.unpinned". A deletion unpins without an event.
type PinEvent struct {
	base
	RoomID    string     `json:"room_id"`
	MessageID string     `json:"message_id"`
	TargetSeq int64      `json:"target_seq"`
	UserID    string     `json:"user_id"`
	PinnedAt  *time.Time `json:"pinned_at"`
}

// RoomEvent is "room.created", "room.updated" or "room.deleted". Over long polls the latter has the RoomID alone.
type RoomEvent struct {
	base
	Room Room
}

// RoomMeEvent says that the user's own view of a room has changed.
type RoomMeEvent struct {
	base
	OwnView
}

// MemberEvent is "member.joined", "member.updated" or "member.left". After the latter a connection of that user gets
// nothing more of the room. The end of a mute makes no event.
type MemberEvent struct {
	base
	RoomID     string     `json:"room_id"`
	UserID     string     `json:"user_id"`
	Role       Role       `json:"role"`
	MutedUntil *time.Time `json:"muted_until"`
}

// MemberBanEvent is "member.banned" or "member.unbanned". A member who is banned is a member no longer. Until is nil for
// a ban without an end; its end by itself makes no event.
type MemberBanEvent struct {
	base
	RoomID string     `json:"room_id"`
	UserID string     `json:"user_id"`
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until"`
}

// ReceiptEvent is "ack.received" or "read.updated": UserID has come up to Seq. It belongs to no log.
type ReceiptEvent struct {
	base
	RoomID string `json:"room_id"`
	Seq    int64  `json:"seq"`
	UserID string `json:"user_id"`
}

// PresenceEvent says who is "online" or "offline" now.
type PresenceEvent struct {
	base
	UserID string `json:"user_id"`
	Status string `json:"status"`
}

// TypingEvent says who begins ("start") or stops typing ("stop").
type TypingEvent struct {
	base
	RoomID string `json:"room_id"`
	UserID string `json:"user_id"`
	Action string `json:"action"`
}

// UserUpdatedEvent is a changed profile: the user's own, or that of somebody in a room of up to 200 members.
type UserUpdatedEvent struct {
	base
	User User `json:"user"`
}

// NotificationEvent comes once, and is acknowledged when it was handled.
type NotificationEvent struct {
	base
	Notification
}

// SyncCompleteEvent says that everything that was missed has been handed over; the next events are live.
type SyncCompleteEvent struct {
	base
	Rooms map[string]int64 `json:"rooms"`
}

// SyncResetEvent says that the server has another log than the one the cursors came from, so that the next events may
// have been seen before.
type SyncResetEvent struct {
	base
	Epoch string           `json:"epoch"`
	Rooms map[string]int64 `json:"rooms"`
}

// ShutdownEvent says that the server stops. The connection comes back by itself.
type ShutdownEvent struct {
	base
	ReconnectAfterMS float64 `json:"reconnect_after_ms"`
	URL              string  `json:"url"` // of the server that the tenant has moved to; the connection follows
}

// blankEvent is the type of an event, to be filled.
func blankEvent(kind string) settable {
	switch kind {
	case "ready":
		return &ReadyEvent{}
	case "message.deleted":
		return &MessageDeletedEvent{}
	case "message.delta":
		return &MessageDeltaEvent{}
	case "message.state":
		return &MessageStateEvent{}
	case "message.cancel_requested":
		return &MessageCancelRequestedEvent{}
	case "reaction.added", "reaction.removed":
		return &ReactionEvent{}
	case "message.pinned", "message.unpinned":
		return &PinEvent{}
	case "room.me":
		return &RoomMeEvent{}
	case "member.joined", "member.updated", "member.left":
		return &MemberEvent{}
	case "member.banned", "member.unbanned":
		return &MemberBanEvent{}
	case "ack.received", "read.updated":
		return &ReceiptEvent{}
	case "presence.update":
		return &PresenceEvent{}
	case "typing":
		return &TypingEvent{}
	case "user.updated":
		return &UserUpdatedEvent{}
	case "notification":
		return &NotificationEvent{}
	case "sync.complete":
		return &SyncCompleteEvent{}
	case "sync.reset":
		return &SyncResetEvent{}
	case "server.shutdown":
		return &ShutdownEvent{}
	}
	return &UnknownEvent{}
}

// newEvent makes the event of a frame. Nothing is lost: what cannot be read is an *UnknownEvent.
func newEvent(f *frame) Event {
	about := base{kind: f.kind, data: f.data}
	if f.isLogged() {
		about.place, about.isLogged = Place{f.roomID(), f.seq()}, true
	}
	var event settable
	var err error
	switch f.kind {
	case "message", "message.edited", "message.finished":
		event, err = newWholeMessage(f)
	case "room.created", "room.updated", "room.deleted":
		room := &RoomEvent{}
		err = json.Unmarshal(f.data, &room.Room)
		room.Room.Type = RoomType(f.fields.text("room_type")) // `type` is the event's own
		event = room
	default:
		event = blankEvent(f.kind)
		if _, isUnknown := event.(*UnknownEvent); !isUnknown {
			err = json.Unmarshal(f.data, event)
		}
	}
	if err != nil {
		event = &UnknownEvent{}
	}
	event.setBase(about)
	return event
}

func newWholeMessage(f *frame) (settable, error) {
	var message Message
	err := json.Unmarshal(f.data, &message)
	if target := f.fields.number("target_seq"); target != 0 {
		message.Seq = target
	}
	switch f.kind {
	case "message":
		return &MessageEvent{Message: message}, err
	case "message.edited":
		return &MessageEditedEvent{Message: message}, err
	}
	return &MessageFinishedEvent{Message: message}, err
}
