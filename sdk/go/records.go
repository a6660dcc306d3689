package chatapi

import (
	"encoding/json"
	"time"
)

// RoomType is "dm", "group" or "channel".
type RoomType string

const (
	DM      RoomType = "dm"      // two users, forever
	Group   RoomType = "group"   // private
	Channel RoomType = "channel" // every user of the tenant may read it
)

// Role of a member.
type Role string

const (
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
)

// raw is a record as it came, so that a newer server's fields are at hand, too.
type raw struct{ data json.RawMessage }

// Raw is the record as it came: plain JSON, with fields that this SDK does not know; nil for a record that did not come
// from a server.
func (r raw) Raw() json.RawMessage { return r.data }

// Room is a place where messages live.
type Room struct {
	raw
	RoomID          string         `json:"room_id"`
	Type            RoomType       `json:"type"`
	UniqueKey       string         `json:"unique_key"` // of a dm
	Name            string         `json:"name"`
	Metadata        map[string]any `json:"metadata"`
	Posting         string         `json:"posting"` // who may post: "members" or "admins"
	SlowModeSeconds int            `json:"slow_mode_seconds"`
	LastSeq         int64          `json:"last_seq"`
	MemberCount     int            `json:"member_count"`
	CreatedBy       string         `json:"created_by"`
	CreatedAt       time.Time      `json:"created_at"`
	UpdatedAt       time.Time      `json:"updated_at"`
}

// UnmarshalJSON keeps the text of the record.
func (r *Room) UnmarshalJSON(data []byte) error {
	type plain Room
	return unmarshalKeeping(data, (*plain)(r), &r.raw)
}

func unmarshalKeeping(data []byte, record any, kept *raw) error {
	if err := json.Unmarshal(data, record); err != nil {
		return err
	}
	kept.data = append(json.RawMessage(nil), data...)
	return nil
}

// OwnRoom is a room as its member sees it in a list. The counts stop at 1,000.
type OwnRoom struct {
	Room
	Role           Role
	LastAck        int64
	LastRead       int64
	Notify         string // "all", "mentions" or "none"
	Hidden         bool
	UnreadCount    int
	UnreadMentions int
	LastMessage    *Message // nil in an empty room
}

// UnmarshalJSON reads the room, and then the member's own fields.
func (r *OwnRoom) UnmarshalJSON(data []byte) error {
	var own struct {
		Role           Role     `json:"role"`
		LastAck        int64    `json:"last_ack"`
		LastRead       int64    `json:"last_read"`
		Notify         string   `json:"notify"`
		Hidden         bool     `json:"hidden"`
		UnreadCount    int      `json:"unread_count"`
		UnreadMentions int      `json:"unread_mentions"`
		LastMessage    *Message `json:"last_message"`
	}
	if err := json.Unmarshal(data, &own); err != nil {
		return err
	}
	*r = OwnRoom{
		Role: own.Role, LastAck: own.LastAck, LastRead: own.LastRead, Notify: own.Notify, Hidden: own.Hidden,
		UnreadCount: own.UnreadCount, UnreadMentions: own.UnreadMentions, LastMessage: own.LastMessage,
	}
	return r.Room.UnmarshalJSON(data)
}

// OwnView is how the caller sees a room.
type OwnView struct {
	RoomID string `json:"room_id"`
	Notify string `json:"notify"` // of which messages the backend is told while the caller is offline
	Hidden bool   `json:"hidden"`
}

// Message is a message as it now stands. Once it was deleted, Content is empty and DeletedAt says when.
type Message struct {
	raw
	MessageID       string            `json:"message_id"`
	RoomID          string            `json:"room_id"`
	Seq             int64             `json:"seq"`
	SenderID        string            `json:"sender_id"`
	Content         string            `json:"content"`
	Meta            map[string]any    `json:"meta"`
	ReplyTo         string            `json:"reply_to"`
	ClientMessageID string            `json:"client_message_id"`
	CreatedAt       time.Time         `json:"created_at"`
	EditedAt        *time.Time        `json:"edited_at"`
	DeletedAt       *time.Time        `json:"deleted_at"`
	ThreadID        string            `json:"thread_id"`    // the message to which it is a reply in a thread
	Mentions        []string          `json:"mentions"`     // user ids
	MentionRoom     bool              `json:"mention_room"` // mentions every member
	Stream          *StreamStatus     `json:"stream"`       // of a message that is, or was, written in pieces
	Reactions       []ReactionSummary `json:"reactions"`    // in the order of first use
	PinnedAt        *time.Time        `json:"pinned_at"`
	Thread          *ThreadSummary    `json:"thread"` // of a message with replies in a thread
}

// UnmarshalJSON keeps the text of the record.
func (m *Message) UnmarshalJSON(data []byte) error {
	type plain Message
	return unmarshalKeeping(data, (*plain)(m), &m.raw)
}

// The states of a stream.
const (
	StreamOpen      = "open"
	StreamDone      = "done"
	StreamCancelled = "cancelled"
	StreamFailed    = "failed"
)

// StreamStatus tells how far a message is that is written in pieces. Index, of the last append, and CancelRequested say
// something only while it is open.
type StreamStatus struct {
	State           string `json:"state"`
	Index           int    `json:"index"`
	CancelRequested bool   `json:"cancel_requested"`
}

// IsOpen tells whether the message is still being written.
func (s *StreamStatus) IsOpen() bool { return s != nil && s.State == StreamOpen }

// ReactionSummary is one emoji on a message: UserIDs are the first 20 of those who reacted with it, in that order.
type ReactionSummary struct {
	Emoji   string   `json:"emoji"`
	Count   int      `json:"count"`
	UserIDs []string `json:"user_ids"`
}

// ThreadSummary is about the replies to a message that are not deleted.
type ThreadSummary struct {
	ReplyCount   int       `json:"reply_count"`
	LastReplySeq int64     `json:"last_reply_seq"`
	LastReplyAt  time.Time `json:"last_reply_at"`
}

// Reaction of one user.
type Reaction struct {
	Emoji     string    `json:"emoji"`
	UserID    string    `json:"user_id"`
	CreatedAt time.Time `json:"created_at"`
}

// Member of a room. MutedUntil is there as long as it is ahead; Name and AvatarURL are of the user's profile.
type Member struct {
	raw
	UserID     string     `json:"user_id"`
	Role       Role       `json:"role"`
	JoinedAt   time.Time  `json:"joined_at"`
	MutedUntil *time.Time `json:"muted_until"`
	Name       string     `json:"name"`
	AvatarURL  string     `json:"avatar_url"`
}

// UnmarshalJSON keeps the text of the record.
func (m *Member) UnmarshalJSON(data []byte) error {
	type plain Member
	return unmarshalKeeping(data, (*plain)(m), &m.raw)
}

// User is a profile. LastSeenAt is when the user was last online, for those who may know it.
type User struct {
	UserID     string         `json:"user_id"`
	Name       string         `json:"name"`
	AvatarURL  string         `json:"avatar_url"`
	Metadata   map[string]any `json:"metadata"`
	LastSeenAt *time.Time     `json:"last_seen_at"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
}

// Receipt is how far a member has come in a room.
type Receipt struct {
	UserID   string `json:"user_id"`
	LastAck  int64  `json:"last_ack"`
	LastRead int64  `json:"last_read"`
}

// Position is how far the caller now stands in a room.
type Position struct {
	RoomID string `json:"room_id"`
	Seq    int64  `json:"seq"`
}

// Sent is a message that is stored.
type Sent struct {
	RoomID          string        `json:"room_id"`
	MessageID       string        `json:"message_id"`
	Seq             int64         `json:"seq"`
	ClientMessageID string        `json:"client_message_id"`
	CreatedAt       time.Time     `json:"created_at"`
	Stream          *StreamStatus `json:"stream"`
}

// Cursors are how far a device has come in each room, and in which life of the database: plain JSON, to be kept.
type Cursors struct {
	Epoch string           `json:"epoch"`
	Rooms map[string]int64 `json:"rooms"`
}
