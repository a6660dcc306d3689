package chatapi

import "time"

// Tenant is an organization. WebhookSecret is there when a change was the first to set webhook_url.
type Tenant struct {
	TenantID      string         `json:"tenant_id"`
	Name          string         `json:"name"`
	CreatedAt     time.Time      `json:"created_at"`
	Config        map[string]any `json:"config"`
	WebhookSecret string         `json:"webhook_secret"`
	Move          *MoveState     `json:"move"` // nil unless it is on its way, or has moved
}

// MoveState is how far a tenant has got on its way to another server: "copying", "held" or "moved".
type MoveState struct {
	State string `json:"state"`
	URL   string `json:"url"`
	Rows  int64  `json:"rows"`
}

// TenantMove is the end of a move, and for how long the tenant's writes were refused.
type TenantMove struct {
	MoveState
	TenantID string `json:"tenant_id"`
	HeldMS   int64  `json:"held_ms"`
}

// NewTenant has its secrets, which are shown this once.
type NewTenant struct {
	Tenant
	APIKey      string `json:"api_key"`
	TokenSecret string `json:"token_secret"`
}

// TenantPage is a page of tenants.
type TenantPage struct {
	PageEnd
	Tenants []Tenant `json:"tenants"`
}

// NewKey is an API key, which is shown this once.
type NewKey struct {
	KeyID  string `json:"key_id"`
	APIKey string `json:"api_key"`
}

// Key of a tenant, without its secret.
type Key struct {
	KeyID      string     `json:"key_id"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
}

// KeyPage is a page of keys.
type KeyPage struct {
	PageEnd
	Keys []Key `json:"keys"`
}

// FailedCall is a webhook call that was tried Attempts times, and why the last try failed. What it was about is in
// MessageID and RoomID, in NotificationID and Topic, or in Event with what it has of RoomID, Seq, UserID and ReportID.
type FailedCall struct {
	ID             string    `json:"id"`
	TenantID       string    `json:"tenant_id"`
	UserID         string    `json:"user_id"`
	Attempts       int       `json:"attempts"`
	LastAttemptAt  time.Time `json:"last_attempt_at"`
	Error          string    `json:"error"`
	MessageID      string    `json:"message_id"`
	RoomID         string    `json:"room_id"`
	NotificationID string    `json:"notification_id"`
	Topic          string    `json:"topic"`
	Event          string    `json:"event"`
	ReportID       string    `json:"report_id"`
	Seq            int64     `json:"seq"`
}

// DeadLetters is a page of webhook calls that failed for good.
type DeadLetters struct {
	PageEnd
	FailedMessages      []FailedCall `json:"failed_messages"`
	FailedNotifications []FailedCall `json:"failed_notifications"`
	FailedEvents        []FailedCall `json:"failed_events"`
}

// AuditActor is the credential with which somebody acted: "master", "key", "user", or "server" for the server itself.
// With a key, UserID is the user that the backend acted for.
type AuditActor struct {
	Kind   string `json:"kind"`
	KeyID  string `json:"key_id"`
	UserID string `json:"user_id"`
}

// AuditEntry is an act of an operator or a moderator.
type AuditEntry struct {
	ID       string         `json:"id"`
	At       time.Time      `json:"at"`
	Actor    AuditActor     `json:"actor"`
	Address  string         `json:"address"`
	Action   string         `json:"action"`
	TenantID string         `json:"tenant_id"`
	Target   string         `json:"target"`
	Details  map[string]any `json:"details"`
}

// AuditPage is a page of the audit.
type AuditPage struct {
	Entries []AuditEntry `json:"entries"`
	HasMore bool         `json:"has_more"`
}

// Queues count notifications that are not acknowledged yet, for each recipient; webhook calls still to be made; dead
// letters; and, of all tenants together, Writes that wait for the disk.
type Queues struct {
	Notifications int `json:"notifications"`
	Webhooks      int `json:"webhooks"`
	DeadLetters   int `json:"dead_letters"`
	Writes        int `json:"writes"`
}

// TenantStats are the counts of one tenant.
type TenantStats struct {
	TenantID    string `json:"tenant_id"`
	Name        string `json:"name"`
	Rooms       int    `json:"rooms"`
	Messages    int    `json:"messages"`
	Connections int    `json:"connections"`
	Queues      Queues `json:"queues"`
}

// Stats of the server.
type Stats struct {
	Tenants []TenantStats `json:"tenants"`
	Queues  Queues        `json:"queues"`
}

// Compacted tells the file's size when the call began, and now; and how much of it holds nothing.
type Compacted struct {
	Stage       string `json:"stage"` // "working", "waiting" or "done"
	BeforeBytes int64  `json:"before_bytes"`
	FileBytes   int64  `json:"file_bytes"`
	FreeBytes   int64  `json:"free_bytes"`
}
