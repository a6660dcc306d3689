package chatapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// moveWait is how long a move may take: then the call may be made again, and joins it.
const moveWait = time.Hour

const databaseMedia = "application/octet-stream"

var tenantShape = shape{"tenant_id": aString}

// Admin is the operator: tenants, their keys and secrets, dead letters. Every call fails with 401 for a wrong master
// key. Its methods may be called from several goroutines.
type Admin struct{ caller }

// NewAdmin makes an operator's client of the server at this address.
func NewAdmin(address, masterKey string, options *Options) (*Admin, error) {
	if masterKey == "" || !headerPattern.MatchString(masterKey) {
		return nil, errors.New("chatapi: the master key must be printable ASCII")
	}
	http, err := newRequester(address, options)
	if err != nil {
		return nil, err
	}
	http.staysPut = true // the master key is one server's
	return &Admin{caller{http, newMasterKeyring(masterKey)}}, nil
}

func tenantPath(tenantID string) string { return "/admin/tenants/" + escape(tenantID) }

// CreateTenant creates a tenant. Its API key and secrets are shown this once. name: 1 to 200 characters; config: its own
// limits, webhook URL and retention, as TenantConfig of the OpenAPI document has them. It is not tried again after a
// lost answer. 400 (Field: config.…).
func (a *Admin) CreateTenant(ctx context.Context, name string, config map[string]any) (*NewTenant, error) {
	if config == nil {
		config = map[string]any{}
	}
	body := map[string]any{"name": name, "config": config}
	return get[NewTenant](ctx, &a.caller, call{method: http.MethodPost, path: "/admin/tenants", body: body}, tenantShape)
}

// ListTenants lists all tenants, the oldest first.
func (a *Admin) ListTenants(ctx context.Context, page Page) (*TenantPage, error) {
	asked := call{method: http.MethodGet, path: "/admin/tenants", query: page.query().values()}
	return get[TenantPage](ctx, &a.caller, asked, shape{"tenants": aList})
}

// GetTenant reads a tenant with its config, without keys and secrets. 404.
func (a *Admin) GetTenant(ctx context.Context, tenantID string) (*Tenant, error) {
	return get[Tenant](ctx, &a.caller, call{method: http.MethodGet, path: tenantPath(tenantID)}, tenantShape)
}

// TenantChange says what to change. Of Config, keys that are not given stay, and nil takes the server's own setting.
type TenantChange struct {
	Name   Optional[string]
	Config Optional[map[string]any]
}

// UpdateTenant changes a tenant. The answer has a WebhookSecret when webhook_url is set for the first time. 400, 404.
func (a *Admin) UpdateTenant(ctx context.Context, tenantID string, change TenantChange) (*Tenant, error) {
	body := map[string]any{}
	change.Name.put(body, "name")
	change.Config.put(body, "config")
	return get[Tenant](ctx, &a.caller, call{method: http.MethodPatch, path: tenantPath(tenantID), body: body}, tenantShape)
}

// DeleteTenant deletes a tenant and all its data; its connections end. 404.
func (a *Admin) DeleteTenant(ctx context.Context, tenantID string) error {
	return a.ask(ctx, call{method: http.MethodDelete, path: tenantPath(tenantID)}, nil, nil)
}

// MoveTenant moves a tenant to another server, at the address `to`, and returns once that serves it, which takes as long
// as its data take to be copied. toMasterKey is the other server's master key. The same call goes on where a move was
// broken off. 400; 404; 409 with what the other server objects; 503 when the move was given up and this server goes on.
func (a *Admin) MoveTenant(ctx context.Context, tenantID, to, toMasterKey string) (*TenantMove, error) {
	asked := call{
		method: http.MethodPost, path: tenantPath(tenantID) + "/move", body: map[string]string{"to": to}, repeat: true,
		wait: moveWait, header: map[string]string{"X-To-Master-Key": toMasterKey},
	}
	return get[TenantMove](ctx, &a.caller, asked, shape{"state": aString})
}

// ExportTenant writes everything of a tenant, as it stands at this moment, to `to`: a ChatAPI database with its secrets,
// for ImportTenant. It returns how many bytes that were. They go piece by piece, so that it takes little memory, and it is
// not tried again: throw away what was written after an error. 404; 421; 503 while others are under way.
func (a *Admin) ExportTenant(ctx context.Context, tenantID string, to io.Writer) (int64, error) {
	return a.http.download(ctx, a.keys, "/v1"+tenantPath(tenantID)+"/export", to)
}

// ImportTenant takes a tenant from a database that ExportTenant has made, and returns it once the server serves it. It is
// not tried again: after a lost answer GetTenant tells. 400 with the reason for any other file; 409 when the tenant is
// there; 503.
func (a *Admin) ImportTenant(ctx context.Context, from io.Reader) (*Tenant, error) {
	const path = "/v1/admin/tenants/import"
	data, err := a.http.upload(ctx, a.keys, path, databaseMedia, from, tenantShape)
	if err != nil {
		return nil, err
	}
	tenant := new(Tenant)
	if err := json.Unmarshal(data, tenant); err != nil {
		return nil, &NotChatAPIError{Call: "POST " + path, HTTPStatus: 201, Reason: "data of another form: " + err.Error()}
	}
	return tenant, nil
}

// CreateKey adds an API key, which is shown this once. It is not tried again after a lost answer. 404.
func (a *Admin) CreateKey(ctx context.Context, tenantID string) (*NewKey, error) {
	asked := call{method: http.MethodPost, path: tenantPath(tenantID) + "/keys"}
	return get[NewKey](ctx, &a.caller, asked, shape{"api_key": aString})
}

// ListKeys lists the tenant's API keys, without their secrets: when each was made, and last used. 404.
func (a *Admin) ListKeys(ctx context.Context, tenantID string, page Page) (*KeyPage, error) {
	asked := call{method: http.MethodGet, path: tenantPath(tenantID) + "/keys", query: page.query().values()}
	return get[KeyPage](ctx, &a.caller, asked, shape{"keys": aList})
}

// RevokeKey revokes an API key at once; its connections end. 404.
func (a *Admin) RevokeKey(ctx context.Context, tenantID, keyID string) error {
	return a.ask(ctx, call{method: http.MethodDelete, path: tenantPath(tenantID) + "/keys/" + escape(keyID)}, nil, nil)
}

// RotateTokenSecret replaces the secret that signs user tokens, and returns the new one, this once. All user tokens of
// the tenant die at once. It is not tried again after a lost answer. 404.
func (a *Admin) RotateTokenSecret(ctx context.Context, tenantID string) (string, error) {
	var secret struct {
		TokenSecret string `json:"token_secret"`
	}
	asked := call{method: http.MethodPost, path: tenantPath(tenantID) + "/token-secret"}
	err := a.ask(ctx, asked, shape{"token_secret": aString}, &secret)
	return secret.TokenSecret, err
}

// RotateWebhookSecret replaces the secret that signs webhook calls, and returns the new one, this once. The old one signs
// along for 24 h. It is not tried again after a lost answer. 404.
func (a *Admin) RotateWebhookSecret(ctx context.Context, tenantID string) (string, error) {
	var secret struct {
		WebhookSecret string `json:"webhook_secret"`
	}
	asked := call{method: http.MethodPost, path: tenantPath(tenantID) + "/webhook-secret"}
	err := a.ask(ctx, asked, shape{"webhook_secret": aString}, &secret)
	return secret.WebhookSecret, err
}

// DeadLetterQuery chooses a part of the dead letters. Limit may be up to 1,000.
type DeadLetterQuery struct {
	Page
	TenantID string // of this tenant alone
}

// ListDeadLetters lists webhook calls that failed for good, the latest first. 404 of an unknown tenant.
func (a *Admin) ListDeadLetters(ctx context.Context, q DeadLetterQuery) (*DeadLetters, error) {
	values := q.query().text("tenant_id", q.TenantID).values()
	asked := call{method: http.MethodGet, path: "/admin/dead-letters", query: values}
	return get[DeadLetters](ctx, &a.caller, asked, shape{"failed_messages": aList})
}

// AuditQuery chooses a part of the audit.
type AuditQuery struct {
	Limit    int
	After    string // the ID of an entry: only those after it
	TenantID string // of this tenant alone, deleted or not
}

// ListAudit lists acts of operators and moderators, the oldest first. 400 for a wrong After.
func (a *Admin) ListAudit(ctx context.Context, q AuditQuery) (*AuditPage, error) {
	values := query{}.number("limit", int64(q.Limit)).text("after", q.After).text("tenant_id", q.TenantID).values()
	asked := call{method: http.MethodGet, path: "/admin/audit", query: values}
	return get[AuditPage](ctx, &a.caller, asked, shape{"entries": aList})
}

// RetryDeadLetter puts a webhook call that failed for good back into the queue, by its ID. It is not tried again after a
// lost answer. 404; 409 when the tenant has no webhook_url.
func (a *Admin) RetryDeadLetter(ctx context.Context, deadLetterID string) error {
	asked := call{method: http.MethodPost, path: "/admin/dead-letters/" + escape(deadLetterID) + "/retry"}
	return a.ask(ctx, asked, shape{"id": aString}, nil)
}

// RetryDeadLetters puts all of a tenant's dead letters back into the queue, and returns how many. It is not tried again
// after a lost answer, since the count would be another one. 404; 409 when the tenant has no webhook_url.
func (a *Admin) RetryDeadLetters(ctx context.Context, tenantID string) (int, error) {
	var retried struct {
		Retried int `json:"retried"`
	}
	asked := call{method: http.MethodPost, path: "/admin/dead-letters/retry", body: map[string]any{"tenant_id": tenantID}}
	err := a.ask(ctx, asked, shape{"retried": anInt}, &retried)
	return retried.Retried, err
}

// GetStats counts, for each tenant, rooms, messages, connections and what waits in its queues; and the queues of all.
func (a *Admin) GetStats(ctx context.Context) (*Stats, error) {
	return get[Stats](ctx, &a.caller, call{method: http.MethodGet, path: "/admin/stats"}, shape{"tenants": aList})
}

// Compact gives free space of the server's database back to the file system, for about a second: call it until Stage is
// "done". It is "waiting" while a backup, a check or a long read needs the file as it was. database: device and inode of
// its file ("64769:1310847"), or "". It is not tried again after a lost answer. 409 for a database that cannot do it
// while the server runs, and where the server has another one.
func (a *Admin) Compact(ctx context.Context, database string) (*Compacted, error) {
	asked := call{method: http.MethodPost, path: "/admin/compact", query: query{}.text("database", database).values()}
	wanted := shape{"stage": aString, "before_bytes": anInt, "file_bytes": anInt, "free_bytes": anInt}
	return get[Compacted](ctx, &a.caller, asked, wanted)
}
