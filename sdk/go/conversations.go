package chatapi

import (
	"context"
	"net/http"
)

// AppendAnswer says that everything up to Index is stored. CancelRequested: somebody wants the stream to end.
type AppendAnswer struct {
	Index           int  `json:"index"`
	CancelRequested bool `json:"cancel_requested"`
}

// OpenStream opens a message that is then written with AppendToMessage and ended with FinishMessage; Stream does all of
// that. With the ClientMessageID of a stream that is open, that one is returned. 429 for too many open streams; as for
// SendMessage otherwise.
func (c *Client) OpenStream(ctx context.Context, roomID string, draft Draft) (*Message, error) {
	fields := draft.fields()
	fields["stream"] = true
	return c.sendFields(ctx, roomID, fields)
}

// AppendToMessage appends to a message that was opened as a stream; it returns once the text, and all before it, is
// stored. The same index with the same text is stored once. index: 1 for the first append, then one more each time.
// text: up to 16 KiB of UTF-8; an empty one with the last index only says that the sender is still there. For its
// sender. 409 for an index that does not follow, where Details has the last one as index, and for a stream that has
// ended; 400, 403, 404.
func (c *Client) AppendToMessage(ctx context.Context, roomID, messageID string, index int, text string) (*AppendAnswer, error) {
	body := map[string]any{"index": index, "text": text}
	asked := call{method: http.MethodPost, path: messagePath(roomID, messageID) + "/append", body: body, repeat: true}
	return get[AppendAnswer](ctx, &c.caller, asked, shape{"index": anInt})
}

// Finish is the end of a stream. Index is that of the last append; Content replaces all that was appended.
type Finish struct {
	State   string // StreamDone, StreamCancelled or StreamFailed
	Index   Optional[int]
	Content Optional[string]
	Meta    Optional[map[string]any]
}

func (f Finish) fields() map[string]any {
	fields := map[string]any{"state": f.State}
	f.Index.put(fields, "index")
	f.Content.put(fields, "content")
	f.Meta.put(fields, "meta")
	return fields
}

// FinishMessage ends a stream and returns the message; the same end again changes nothing. For its sender. 409 for
// another index, or a stream that has ended otherwise; 400, 403, 404.
func (c *Client) FinishMessage(ctx context.Context, roomID, messageID string, end Finish) (*Message, error) {
	asked := call{method: http.MethodPost, path: messagePath(roomID, messageID) + "/finish", body: end.fields(), repeat: true}
	return get[Message](ctx, &c.caller, asked, messageShape)
}

// CancelMessage asks the sender of a stream to stop, who decides. For members who may post. 409 for a stream that has
// ended; 403, 404.
func (c *Client) CancelMessage(ctx context.Context, roomID, messageID string) error {
	asked := call{method: http.MethodPost, path: messagePath(roomID, messageID) + "/cancel", repeat: true}
	return c.ask(ctx, asked, messageShape, nil)
}

func reactionPath(roomID, messageID, emoji string) string {
	return messagePath(roomID, messageID) + "/reactions/" + escape(emoji)
}

// AddReaction reacts to a message, as the caller, and returns all its reactions. Reacting again with the same emoji
// changes nothing. emoji: 1 to 64 bytes of UTF-8 without white space and control characters, kept byte for byte. 409 for
// more than 20 emoji of the caller, or 50 of all, on one message; 400, 403, 404, also of a deleted message.
func (c *Client) AddReaction(ctx context.Context, roomID, messageID, emoji string) ([]ReactionSummary, error) {
	var page struct {
		Reactions []ReactionSummary `json:"reactions"`
	}
	asked := call{method: http.MethodPut, path: reactionPath(roomID, messageID, emoji)}
	err := c.ask(ctx, asked, shape{"reactions": aList}, &page)
	return page.Reactions, err
}

// RemoveReaction takes a reaction of the caller back; where there is none, nothing changes. 400, 403, 404.
func (c *Client) RemoveReaction(ctx context.Context, roomID, messageID, emoji string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: reactionPath(roomID, messageID, emoji)}, nil, nil)
}

// ReactionQuery chooses a part of the reactions to a message.
type ReactionQuery struct {
	Page
	Emoji string // with this one alone
}

// ReactionPage is a page of reactions.
type ReactionPage struct {
	PageEnd
	Reactions []Reaction `json:"reactions"`
}

// ListReactions lists the reactions to a message, in the order of reacting. 403, 404.
func (c *Client) ListReactions(ctx context.Context, roomID, messageID string, q ReactionQuery) (*ReactionPage, error) {
	path := messagePath(roomID, messageID) + "/reactions"
	asked := call{method: http.MethodGet, path: path, query: q.query().text("emoji", q.Emoji).values()}
	return get[ReactionPage](ctx, &c.caller, asked, shape{"reactions": aList})
}

func pinPath(roomID, messageID string) string { return roomPath(roomID) + "/pins/" + escape(messageID) }

// PinMessage pins a message and returns it; pinning it again changes nothing. For the room's admins, in a dm for both.
// 409 for more than 100 in one room; 403, 404, also of a deleted message.
func (c *Client) PinMessage(ctx context.Context, roomID, messageID string) (*Message, error) {
	return get[Message](ctx, &c.caller, call{method: http.MethodPut, path: pinPath(roomID, messageID)}, messageShape)
}

// UnpinMessage unpins a message; where it is not pinned, nothing changes. For the same users. 403, 404.
func (c *Client) UnpinMessage(ctx context.Context, roomID, messageID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: pinPath(roomID, messageID)}, nil, nil)
}

// ListPins lists the room's pinned messages, the newest pin first. 403, 404.
func (c *Client) ListPins(ctx context.Context, roomID string, page Page) (*MessagePage, error) {
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/pins", query: page.query().values()}
	return get[MessagePage](ctx, &c.caller, asked, messagesShape)
}

// SearchQuery is a search in the caller's rooms. Q has up to 256 characters and 16 terms: words, "phrases", prefix*.
// Offset is at most 1,000.
type SearchQuery struct {
	Page
	Q        string
	RoomID   string // in this room alone, which may be a channel
	SenderID string // of this user alone
	After    string // a time of RFC 3339, excluded
	Before   string // likewise
}

// Snippet is a piece of a message's content. Each hit is [start, end) in code points of Text.
type Snippet struct {
	Text string   `json:"text"`
	Hits [][2]int `json:"hits"`
}

// SearchResult is a message that was found.
type SearchResult struct {
	Message Message `json:"message"`
	Snippet Snippet `json:"snippet"`
}

// SearchPage is a page of results.
type SearchPage struct {
	PageEnd
	Results []SearchResult `json:"results"`
}

// Search finds messages that have all terms, the newest first, without case and diacritics. 400; 404 where search is
// off; 503 for a search of more than 2 seconds.
func (c *Client) Search(ctx context.Context, q SearchQuery) (*SearchPage, error) {
	values := q.query().text("q", q.Q).text("room_id", q.RoomID).text("sender_id", q.SenderID)
	values.text("after", q.After).text("before", q.Before)
	asked := call{method: http.MethodGet, path: "/search", query: values.values()}
	return get[SearchPage](ctx, &c.caller, asked, shape{"results": aList})
}
