package chatapi

import (
	"context"
	"net/http"
	"time"
)

// Ban from a room; Until is nil for a ban without an end.
type Ban struct {
	UserID    string     `json:"user_id"`
	Reason    string     `json:"reason"`
	Until     *time.Time `json:"until"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
}

func banPath(roomID, userID string) string { return roomPath(roomID) + "/bans/" + escape(userID) }

// BanMember bans a user, who is removed if they are a member: they may not join the room, be added or, in a channel,
// read it. For admins of the room. Banning again replaces both terms. 409 for the caller themselves; 403, also of a dm;
// 404.
func (c *Client) BanMember(ctx context.Context, roomID, userID string, terms BanTerms) (*Ban, error) {
	asked := call{method: http.MethodPut, path: banPath(roomID, userID), body: terms.fields()}
	return get[Ban](ctx, &c.caller, asked, memberShape)
}

// UnbanMember lifts a ban; it does nothing for a user who is not banned. For admins of the room. 403, 404.
func (c *Client) UnbanMember(ctx context.Context, roomID, userID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: banPath(roomID, userID)}, nil, nil)
}

// BanPage is a page of bans.
type BanPage struct {
	PageEnd
	Bans []Ban `json:"bans"`
}

// ListBans lists the bans that are in force, the newest first. For admins of the room. 403, 404.
func (c *Client) ListBans(ctx context.Context, roomID string, page Page) (*BanPage, error) {
	asked := call{method: http.MethodGet, path: roomPath(roomID) + "/bans", query: page.query().values()}
	return get[BanPage](ctx, &c.caller, asked, shape{"bans": aList})
}

// ReportMessage reports a message to the tenant's backend, and returns the id of the report; again, that of the first
// one. For all who can read the message. reason: 1 to 1,000 characters. 400, 403, 404, also of a deleted message.
func (c *Client) ReportMessage(ctx context.Context, roomID, messageID, reason string) (string, error) {
	var reported struct {
		ReportID string `json:"report_id"`
	}
	body := map[string]any{"reason": reason}
	asked := call{method: http.MethodPost, path: messagePath(roomID, messageID) + "/report", body: body, repeat: true}
	err := c.ask(ctx, asked, shape{"report_id": aString}, &reported)
	return reported.ReportID, err
}

// Report of a message by UserID; the message is shown as it was then.
type Report struct {
	ReportID   string     `json:"report_id"`
	Status     string     `json:"status"` // "open" or "resolved"
	RoomID     string     `json:"room_id"`
	UserID     string     `json:"user_id"`
	Reason     string     `json:"reason"`
	Message    Message    `json:"message"`
	CreatedAt  time.Time  `json:"created_at"`
	ResolvedBy string     `json:"resolved_by"`
	ResolvedAt *time.Time `json:"resolved_at"`
}

// ReportQuery chooses a part of the reports.
type ReportQuery struct {
	Page
	Status string // "open", which is what "" stands for, or "resolved"
}

// ReportPage is a page of reports.
type ReportPage struct {
	PageEnd
	Reports []Report `json:"reports"`
}

// ListReports lists the tenant's reports, the newest first, with an API key only. 403.
func (c *Client) ListReports(ctx context.Context, q ReportQuery) (*ReportPage, error) {
	asked := call{method: http.MethodGet, path: "/reports", query: q.query().text("status", q.Status).values()}
	return get[ReportPage](ctx, &c.caller, asked, shape{"reports": aList})
}

// ResolveReport marks a report as resolved by the caller; again, nothing changes. With an API key only. 403, 404.
func (c *Client) ResolveReport(ctx context.Context, reportID string) (*Report, error) {
	asked := call{method: http.MethodPost, path: "/reports/" + escape(reportID) + "/resolve", repeat: true}
	return get[Report](ctx, &c.caller, asked, shape{"report_id": aString})
}
