package chatapi

import "encoding/json"

// frame is one of the server's, of a form on which a connection can rely.
type frame struct {
	kind   string
	fields object
	data   json.RawMessage
	isCall bool // the answer of a call that stands in for a frame: its event comes apart from it, if one comes at all
}

// Frames with room_id and seq that are not of the room's log; every other one with both is.
var unlogged = map[string]bool{"message.sent": true, "ack.received": true, "read.updated": true, "subscribed": true}

// Frames that are of no use to the application.
var answers = map[string]bool{
	"message.sent": true, "message.appended": true, "unsubscribed": true, "pong": true, "ready": true, "ready.rooms": true,
}

var (
	loggedShape    = shape{"room_id": aString, "seq": anInt}
	ofMessage      = shape{"room_id": aString, "message_id": aString}
	removalShape   = shape{"room_id": aString, "seq": anInt, "user_id": aString}
	readyRoomShape = shape{"room_id": aString, "last_seq": anInt, "last_ack": anInt}
)

// Fields on which a connection relies. A frame of another form is not ChatAPI's, and ends the socket. Types and fields
// that are not known are passed on.
var frameShapes = map[string]shape{
	"ready":            {"user_id": aString, "epoch": aString, "rooms": aList},
	"ready.rooms":      {"rooms": aList, "more": aBool},
	"message":          loggedShape,
	"message.edited":   loggedShape,
	"message.finished": loggedShape,
	"message.deleted":  loggedShape,
	"message.pinned":   loggedShape,
	"message.unpinned": loggedShape,
	"message.appended": {"message_id": aString, "index": anInt},
	"message.delta":    {"room_id": aString, "message_id": aString, "after": anInt, "index": anInt, "text": aString},
	"message.state":    {"room_id": aString, "message": anObject},
	"reaction.added":   ofMessage,
	"reaction.removed": ofMessage,
	"room.updated":     loggedShape,
	"room.created":     {"room_id": aString, "last_seq": anInt},
	"room.deleted":     {"room_id": aString},
	"room.me":          {"room_id": aString},
	"member.joined":    loggedShape,
	"member.updated":   loggedShape,
	"member.unbanned":  loggedShape,
	"member.left":      removalShape,
	"member.banned":    removalShape,
	"notification":     {"notification_id": aString},
	"ack.received":     loggedShape,
	"subscribed":       {"room_id": aString, "last_seq": anInt},
	"sync.gap":         {"room_id": aString, "to_seq": anInt},
	"sync.reset":       {"epoch": aString, "rooms": anObject},
	"sync.complete":    {"rooms": anObject},
	"error":            {"code": aString},

	"message.cancel_requested": ofMessage,
}

// parseFrame fails with *NotChatAPIError.
func parseFrame(data []byte) (*frame, error) {
	fields, ok := parseObject(data)
	if !ok || !fields.has(shape{"type": aString}) {
		return nil, &NotChatAPIError{Call: "frame", Reason: "no JSON object with a type"}
	}
	parsed := &frame{kind: fields.text("type"), fields: fields, data: data}
	if !fields.has(frameShapes[parsed.kind]) || !parsed.hasSoundRooms() {
		return nil, &NotChatAPIError{Call: "frame", Reason: "not one of ChatAPI's"}
	}
	return parsed, nil
}

func (f *frame) hasSoundRooms() bool {
	switch f.kind {
	case "ready", "ready.rooms":
		var rooms []object
		if json.Unmarshal(f.fields["rooms"], &rooms) != nil {
			return false
		}
		for _, room := range rooms {
			if !room.has(readyRoomShape) {
				return false
			}
		}
	case "sync.reset", "sync.complete":
		_, ok := f.fields.numbers("rooms")
		return ok
	}
	return true
}

// makeFrame is one of the SDK's own making, in place of one that a WebSocket would have brought.
func makeFrame(fields map[string]any) *frame {
	data, err := encode(fields)
	if err != nil {
		panic(err) // it is made of the SDK's own values
	}
	parsed, _ := parseObject(data)
	return &frame{kind: parsed.text("type"), fields: parsed, data: data}
}

func (f *frame) roomID() string    { return f.fields.text("room_id") }
func (f *frame) seq() int64        { return f.fields.number("seq") }
func (f *frame) requestID() string { return f.fields.text("request_id") }

// isLogged tells whether the frame takes a number in its room's log. A newer server has types of these that are not
// known here.
func (f *frame) isLogged() bool { return f.fields.has(loggedShape) && !unlogged[f.kind] }

// isRepetition tells whether it only answers a request that changed nothing: it looks like an event, but has no place in
// the log.
func (f *frame) isRepetition() bool {
	return (f.kind == "reaction.added" || f.kind == "reaction.removed") && !isKind(f.fields["seq"], anInt)
}
