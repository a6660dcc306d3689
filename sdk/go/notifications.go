package chatapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Targets of a notification: at least one of them. A user who is in several is notified once.
type Targets struct {
	UserIDs          []string // up to 1,000
	RoomID           string   // its members
	TopicSubscribers bool
}

// Notified says to how many users a notification goes.
type Notified struct {
	NotificationID string    `json:"notification_id"`
	CreatedAt      time.Time `json:"created_at"`
	Recipients     int       `json:"recipients"`
}

// Notify stores a notification for every user that the targets name. With an API key only. topic: 1 to 200 characters;
// payload: anything of at most 64 KiB as JSON. It is not tried again after a lost answer, as it could then arrive twice.
// 400; 403 with a user token; 404 of a room.
func (c *Client) Notify(ctx context.Context, topic string, payload any, targets Targets) (*Notified, error) {
	named := map[string]any{}
	if targets.UserIDs != nil {
		named["user_ids"] = targets.UserIDs
	}
	if targets.RoomID != "" {
		named["room_id"] = targets.RoomID
	}
	if targets.TopicSubscribers {
		named["topic_subscribers"] = true
	}
	body := map[string]any{"topic": topic, "payload": payload, "targets": named}
	asked := call{method: http.MethodPost, path: "/notify", body: body}
	return get[Notified](ctx, &c.caller, asked, shape{"notification_id": aString})
}

// Notification of a user. In a list it has a Status, "pending" or "delivered", which means acknowledged, at AckedAt.
type Notification struct {
	NotificationID string          `json:"notification_id"`
	Topic          string          `json:"topic"`
	Payload        json.RawMessage `json:"payload"`
	CreatedAt      time.Time       `json:"created_at"`
	Status         string          `json:"status"`
	AckedAt        *time.Time      `json:"acked_at"`
}

// NotificationQuery chooses a part of the caller's notifications.
type NotificationQuery struct {
	Page
	Status string // "pending", "delivered" or, as "", all
}

// NotificationPage is a page of notifications.
type NotificationPage struct {
	PageEnd
	Notifications []Notification `json:"notifications"`
}

// ListNotifications lists the caller's notifications, the newest first.
func (c *Client) ListNotifications(ctx context.Context, q NotificationQuery) (*NotificationPage, error) {
	asked := call{method: http.MethodGet, path: "/notifications", query: q.query().text("status", q.Status).values()}
	return get[NotificationPage](ctx, &c.caller, asked, shape{"notifications": aList})
}

// AckNotification acknowledges a notification, which is not sent again then; once more changes nothing. 404.
func (c *Client) AckNotification(ctx context.Context, notificationID string) error {
	asked := call{method: http.MethodPost, path: "/notifications/" + escape(notificationID) + "/ack", repeat: true}
	return c.ask(ctx, asked, shape{"notification_id": aString}, nil)
}

// Subscription of a user to a topic.
type Subscription struct {
	SubscriptionID string    `json:"subscription_id"`
	Topic          string    `json:"topic"`
	CreatedAt      time.Time `json:"created_at"`
}

// SubscribeTopic subscribes the caller to notifications of a topic (1 to 200 characters). Subscribing twice is the same
// subscription.
func (c *Client) SubscribeTopic(ctx context.Context, topic string) (*Subscription, error) {
	body := map[string]any{"topic": topic}
	asked := call{method: http.MethodPost, path: "/subscriptions", body: body, repeat: true}
	return get[Subscription](ctx, &c.caller, asked, shape{"subscription_id": aString})
}

// SubscriptionPage is a page of subscriptions.
type SubscriptionPage struct {
	PageEnd
	Subscriptions []Subscription `json:"subscriptions"`
}

// ListSubscriptions lists the caller's subscriptions to topics.
func (c *Client) ListSubscriptions(ctx context.Context, page Page) (*SubscriptionPage, error) {
	asked := call{method: http.MethodGet, path: "/subscriptions", query: page.query().values()}
	return get[SubscriptionPage](ctx, &c.caller, asked, shape{"subscriptions": aList})
}

// UnsubscribeTopic ends a subscription, by its SubscriptionID. 404.
func (c *Client) UnsubscribeTopic(ctx context.Context, subscriptionID string) error {
	return c.ask(ctx, call{method: http.MethodDelete, path: "/subscriptions/" + escape(subscriptionID)}, nil, nil)
}

// UserToken is a credential of one user, for a page or an app.
type UserToken struct {
	Token     string    `json:"token"`
	UserID    string    `json:"user_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

// TokenRequest asks for a token of UserID, or of the caller, that is good for ExpiresIn: 1 s to 24 h, and 0 stands for 1 h.
type TokenRequest struct {
	UserID    string
	ExpiresIn time.Duration
}

// CreateToken makes a user token, with an API key only. 403 with a user token.
func (c *Client) CreateToken(ctx context.Context, request TokenRequest) (*UserToken, error) {
	body := map[string]any{}
	if request.UserID != "" {
		body["user_id"] = request.UserID
	}
	if request.ExpiresIn != 0 {
		body["expires_in"] = int64(request.ExpiresIn.Round(time.Second) / time.Second)
	}
	asked := call{method: http.MethodPost, path: "/tokens", body: body, repeat: true}
	return get[UserToken](ctx, &c.caller, asked, shape{"token": aString})
}

// Ticket is good for one WebSocket within ExpiresIn seconds.
type Ticket struct {
	Token     string `json:"token"`
	ExpiresIn int    `json:"expires_in"`
}

// CreateTicket makes a ticket for one WebSocket.
func (c *Client) CreateTicket(ctx context.Context) (*Ticket, error) {
	asked := call{method: http.MethodPost, path: "/ws/token", repeat: true}
	return get[Ticket](ctx, &c.caller, asked, shape{"token": aString})
}
