package chatapi

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// GetUser reads a user's profile, for everybody in the tenant. 404 for a user who has no profile and was never online.
func (c *Client) GetUser(ctx context.Context, userID string) (*User, error) {
	return get[User](ctx, &c.caller, call{method: http.MethodGet, path: userPath(userID)}, memberShape)
}

// Profile says what to write into a user's profile. Name has 1 to 200 characters; AvatarURL is an http or https URL of
// up to 2,048 characters; Metadata has up to 16 KiB as JSON, and is replaced as a whole.
type Profile struct {
	Name      Optional[string]
	AvatarURL Optional[string]
	Metadata  Optional[map[string]any]
}

// PutUser writes what is given into a user's profile. Users write their own, the API key everybody's. 403, 400.
func (c *Client) PutUser(ctx context.Context, userID string, profile Profile) (*User, error) {
	body := map[string]any{}
	profile.Name.put(body, "name")
	profile.AvatarURL.put(body, "avatar_url")
	profile.Metadata.put(body, "metadata")
	return get[User](ctx, &c.caller, call{method: http.MethodPut, path: userPath(userID), body: body}, memberShape)
}

// UserQuery chooses users: up to 100 IDs, whose profiles come in their order; or, with an API key, those whose name or
// id begins with Q (1 to 100 characters, without case and diacritics), by name.
type UserQuery struct {
	Page
	IDs []string
	Q   string
}

// UserPage is a page of profiles.
type UserPage struct {
	PageEnd
	Users []User `json:"users"`
}

// ListUsers lists profiles; users without one are left out. 403 for Q with a user token; 400.
func (c *Client) ListUsers(ctx context.Context, q UserQuery) (*UserPage, error) {
	ids := make([]string, len(q.IDs))
	for i, id := range q.IDs {
		ids[i] = strings.ReplaceAll(escape(id), ",", "%2C") // a comma separates them
	}
	values := q.query().text("ids", strings.Join(ids, ",")).text("q", q.Q)
	asked := call{method: http.MethodGet, path: "/users", query: values.values()}
	return get[UserPage](ctx, &c.caller, asked, shape{"users": aList})
}

// UserBan is a ban from the whole tenant; BannedUntil is nil if it has no end.
type UserBan struct {
	UserID      string     `json:"user_id"`
	Reason      string     `json:"reason"`
	BannedUntil *time.Time `json:"banned_until"`
}

// GetBan reads the ban of a user from the tenant, with an API key only. 404 for a user who is not banned.
func (c *Client) GetBan(ctx context.Context, userID string) (*UserBan, error) {
	return get[UserBan](ctx, &c.caller, call{method: http.MethodGet, path: userPath(userID) + "/ban"}, memberShape)
}

// BanTerms are why and for how long: Reason has up to 500 characters; ExpiresIn is rounded to seconds, up to a year, and
// 0 is a ban without an end.
type BanTerms struct {
	Reason    string
	ExpiresIn time.Duration
}

func (b BanTerms) fields() map[string]any {
	fields := map[string]any{}
	if b.Reason != "" {
		fields["reason"] = b.Reason
	}
	if b.ExpiresIn != 0 {
		fields["expires_in"] = int64(b.ExpiresIn.Round(time.Second) / time.Second)
	}
	return fields
}

// BanUser bans a user from the whole tenant, with an API key only: their connections close with 4003, and all that they
// ask for is refused. It replaces an earlier ban. 400.
func (c *Client) BanUser(ctx context.Context, userID string, terms BanTerms) (*UserBan, error) {
	asked := call{method: http.MethodPut, path: userPath(userID) + "/ban", body: terms.fields()}
	return get[UserBan](ctx, &c.caller, asked, memberShape)
}

// UnbanUser ends the ban of a user, if there is one, with an API key only.
func (c *Client) UnbanUser(ctx context.Context, userID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: userPath(userID) + "/ban"}, nil, nil)
}

// exportWait is how long an export may take.
const exportWait = 10 * time.Minute

// ExportUser returns all that is stored of a user, as lines of JSON that have a type: the first one is "user", the last
// one "end". With an API key only. It is held in memory, up to 64 MiB, and may take 10 minutes: a program that expects
// more reads the route as a stream. 400, 429 while too many run.
func (c *Client) ExportUser(ctx context.Context, userID string) (string, error) {
	asked := call{method: http.MethodGet, path: "/v1" + userPath(userID) + "/export", repeat: true, wait: exportWait}
	return repeat(ctx, c.http, c.keys, asked, answer.text)
}

// Erasure says whether a user's data is erased.
type Erasure struct {
	Erased bool `json:"erased"`
}

// EraseUser erases a user's data, with an API key only: their messages become tombstones, and the rest goes. Erased is
// false while it is under way: ask again, until it is true. Meanwhile all that the user asks for is refused. 400, 429
// while too many are under way.
func (c *Client) EraseUser(ctx context.Context, userID string) (*Erasure, error) {
	return get[Erasure](ctx, &c.caller, call{method: http.MethodDelete, path: userPath(userID)}, shape{"erased": aBool})
}

// Block is a user from whom the caller wants no dm.
type Block struct {
	UserID    string    `json:"user_id"`
	CreatedAt time.Time `json:"created_at"`
}

// BlockUser says that the caller wants no dm from that user: neither of the two may open one, or post in theirs.
// Blocking again changes nothing. 400 for oneself.
func (c *Client) BlockUser(ctx context.Context, userID string) (*Block, error) {
	return get[Block](ctx, &c.caller, call{method: http.MethodPut, path: "/blocks/" + escape(userID)}, memberShape)
}

// UnblockUser ends the caller's block of that user, if there is one.
func (c *Client) UnblockUser(ctx context.Context, userID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: "/blocks/" + escape(userID)}, nil, nil)
}

// BlockPage is a page of blocks.
type BlockPage struct {
	PageEnd
	Blocks []Block `json:"blocks"`
}

// ListBlocks lists the users whom the caller has blocked, the latest first.
func (c *Client) ListBlocks(ctx context.Context, page Page) (*BlockPage, error) {
	asked := call{method: http.MethodGet, path: "/blocks", query: page.query().values()}
	return get[BlockPage](ctx, &c.caller, asked, shape{"blocks": aList})
}
