package chatapi

import (
	"context"
	"net/http"
)

var (
	roomShape   = shape{"room_id": aString}
	roomsShape  = shape{"rooms": aList}
	memberShape = shape{"user_id": aString}
)

// Client is a client of one server: a tenant's backend that acts as a user, or one user. Its methods may be called from
// several goroutines.
//
// Every call fails with *[APIError] if the server refuses; each method names the refusals that are its own. Beside
// them there are 400 (Field says of what), 401, 429 and 5xx.
type Client struct {
	caller
	credential Credential
}

// New makes a client of the server at this address.
func New(address string, credential Credential, options *Options) (*Client, error) {
	if err := credential.check(); err != nil {
		return nil, err
	}
	http, err := newRequester(address, options)
	if err != nil {
		return nil, err
	}
	return &Client{caller{http, newKeyring(credential)}, credential}, nil
}

// As is the same tenant as another user, over the same sockets. It panics unless the client has an API key.
func (c *Client) As(userID string) *Client {
	credential := APIKey(c.credential.apiKey, userID)
	if c.credential.given != credential.given || credential.check() != nil {
		panic("chatapi: only an API key can act as another user, whose id is printable ASCII")
	}
	return &Client{caller{c.http, newKeyring(credential)}, credential}
}

// RoomDraft is a room to be created. Members are up to 1,000 user ids; with one member in a dm the caller is the other.
// Name has up to 200 characters, Metadata up to 16 KiB as JSON. Posting "admins" lets only admins post.
// SlowModeSeconds pass between two messages of a member, up to 21,600; not for admins. A dm has neither.
type RoomDraft struct {
	Type            RoomType
	Members         []string
	Name            string
	Metadata        map[string]any
	Posting         string
	SlowModeSeconds int
}

// CreateRoom creates a room; the caller becomes its first admin. It is not tried again after a lost answer. 409: the dm
// exists, and Details has its room_id.
func (c *Client) CreateRoom(ctx context.Context, room RoomDraft) (*Room, error) {
	body := map[string]any{"type": room.Type, "members": append([]string{}, room.Members...)}
	if room.Name != "" {
		body["name"] = room.Name
	}
	if room.Metadata != nil {
		body["metadata"] = room.Metadata
	}
	if room.Posting != "" {
		body["posting"] = room.Posting
	}
	if room.SlowModeSeconds != 0 {
		body["slow_mode_seconds"] = room.SlowModeSeconds
	}
	return get[Room](ctx, &c.caller, call{method: http.MethodPost, path: "/rooms", body: body}, roomShape)
}

// RoomQuery chooses a part of a list of rooms.
type RoomQuery struct {
	Page
	Hidden bool // also those that the caller has hidden
}

// OwnRoomPage is a page of the caller's rooms.
type OwnRoomPage struct {
	PageEnd
	Rooms []OwnRoom `json:"rooms"`
}

// ListRooms lists the caller's rooms, the most recently active first.
func (c *Client) ListRooms(ctx context.Context, q RoomQuery) (*OwnRoomPage, error) {
	asked := call{method: http.MethodGet, path: "/rooms", query: q.query().flag("hidden", q.Hidden).values()}
	return get[OwnRoomPage](ctx, &c.caller, asked, roomsShape)
}

// RoomPage is a page of rooms.
type RoomPage struct {
	PageEnd
	Rooms []Room `json:"rooms"`
}

// ListChannels lists the tenant's channels, the caller's own and others.
func (c *Client) ListChannels(ctx context.Context, page Page) (*RoomPage, error) {
	asked := call{method: http.MethodGet, path: "/channels", query: page.query().values()}
	return get[RoomPage](ctx, &c.caller, asked, roomsShape)
}

// GetRoom reads a room. 404; 403 if the caller is not a member and it is no channel.
func (c *Client) GetRoom(ctx context.Context, roomID string) (*Room, error) {
	return get[Room](ctx, &c.caller, call{method: http.MethodGet, path: roomPath(roomID)}, roomShape)
}

// RoomChange says what to change. Bounds as in RoomDraft; Metadata is replaced as a whole.
type RoomChange struct {
	Name            Optional[string]
	Metadata        Optional[map[string]any]
	Posting         Optional[string]
	SlowModeSeconds Optional[int]
}

// UpdateRoom changes a room, for its admins. 403, 404.
func (c *Client) UpdateRoom(ctx context.Context, roomID string, change RoomChange) (*Room, error) {
	body := map[string]any{}
	change.Name.put(body, "name")
	change.Metadata.put(body, "metadata")
	change.Posting.put(body, "posting")
	change.SlowModeSeconds.put(body, "slow_mode_seconds")
	return get[Room](ctx, &c.caller, call{method: http.MethodPatch, path: roomPath(roomID), body: body}, roomShape)
}

// DeleteRoom deletes a room and everything in it, for its admins. 403, also of a dm; 404.
func (c *Client) DeleteRoom(ctx context.Context, roomID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: roomPath(roomID)}, nil, nil)
}

// ViewChange says what to change in the caller's view of a room.
type ViewChange struct {
	Notify Optional[string] // "all", "mentions" or "none": of which messages the backend is told while the caller is offline
	Hidden Optional[bool]   // leaves it out of ListRooms until somebody else posts
}

// UpdateView changes the caller's own view of a room. 403, 404.
func (c *Client) UpdateView(ctx context.Context, roomID string, change ViewChange) (*OwnView, error) {
	body := map[string]any{}
	change.Notify.put(body, "notify")
	change.Hidden.put(body, "hidden")
	asked := call{method: http.MethodPatch, path: roomPath(roomID) + "/me", body: body}
	return get[OwnView](ctx, &c.caller, asked, roomShape)
}

// MemberQuery chooses a part of a room's members.
type MemberQuery struct {
	Page
	Q string // those whose name or id begins so: 1 to 100 characters, without case and diacritics
}

// MemberPage is a page of members.
type MemberPage struct {
	PageEnd
	Members []Member `json:"members"`
}

// ListMembers lists a room's members, the longest-standing first; those found by Q by name. 403, 404.
func (c *Client) ListMembers(ctx context.Context, roomID string, q MemberQuery) (*MemberPage, error) {
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/members", query: q.query().text("q", q.Q).values()}
	return get[MemberPage](ctx, &c.caller, asked, shape{"members": aList})
}

// AddMember adds a user, for admins of the room; in a channel users may add themselves, as RoleMember. It is not tried
// again after a lost answer. 409 for a member, or a dm; 403, 404.
func (c *Client) AddMember(ctx context.Context, roomID, userID string, role Role) (*Member, error) {
	if role == "" {
		role = RoleMember
	}
	body := map[string]any{"user_id": userID, "role": role}
	asked := call{method: http.MethodPost, path: roomPath(roomID) + "/members", body: body}
	return get[Member](ctx, &c.caller, asked, memberShape)
}

// MemberChange says what to change about a member.
type MemberChange struct {
	Role     Optional[Role]
	MutedFor Optional[int] // seconds in which they may only read, up to 31,536,000; 0 ends it
}

// UpdateMember gives a member another role, or mutes them, for admins of the room. 409 for the last admin, or a role in
// a dm; 403, 404.
func (c *Client) UpdateMember(ctx context.Context, roomID, userID string, change MemberChange) (*Member, error) {
	body := map[string]any{}
	change.Role.put(body, "role")
	change.MutedFor.put(body, "muted_for")
	asked := call{method: http.MethodPatch, path: memberPath(roomID, userID), body: body}
	return get[Member](ctx, &c.caller, asked, memberShape)
}

// RemoveMember removes a member, or leaves the room. For admins; anybody may leave. 409 for a dm; 403, 404.
func (c *Client) RemoveMember(ctx context.Context, roomID, userID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: memberPath(roomID, userID)}, nil, nil)
}

// PresenceList holds the members of a room who are online.
type PresenceList struct {
	Online []string `json:"online"` // user ids
}

// GetPresence lists the members who are online, for members. 403, 404.
func (c *Client) GetPresence(ctx context.Context, roomID string) (*PresenceList, error) {
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/presence"}
	return get[PresenceList](ctx, &c.caller, asked, shape{"online": aList})
}
