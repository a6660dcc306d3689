package chatapi

import (
	"context"
	"encoding/json"
	"net/http"
)

// ServerInfo is the server's name and version, and the paths of its pages and documents, by name.
type ServerInfo struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Links   map[string]string `json:"links"`
}

// Status is "ok".
type Status struct {
	Status string `json:"status"`
}

// SearchHealth: Lag are messages and edits that are not in its index yet, counted to 10,000; nil if it cannot be read.
type SearchHealth struct {
	Enabled bool `json:"enabled"`
	Lag     *int `json:"lag"`
}

// Health of the server. Uptime is for people: "3d 4h 0m 12s".
type Health struct {
	Status        string       `json:"status"`
	Service       string       `json:"service"`
	Version       string       `json:"version"`
	Uptime        string       `json:"uptime"`
	UptimeSeconds int64        `json:"uptime_seconds"`
	DBWritable    bool         `json:"db_writable"`
	Search        SearchHealth `json:"search"`
}

var statusShape = shape{"status": aString}

// Info tells the server's name, version and links. It needs no credential.
func (c *caller) Info(ctx context.Context) (*ServerInfo, error) {
	return get[ServerInfo](ctx, c, call{method: http.MethodGet, path: "/"}, shape{"version": aString, "links": anObject})
}

// Livez tells whether the process answers; it looks at nothing else. It needs no credential.
func (c *caller) Livez(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, call{method: http.MethodGet, path: "/livez"}, statusShape)
}

// Readyz tells whether the server serves requests. It needs no credential. 503, after the usual tries, while it starts,
// stops, or cannot write.
func (c *caller) Readyz(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, call{method: http.MethodGet, path: "/readyz"}, statusShape)
}

// Health tells the server's version and uptime. It needs no credential. 503, after the usual tries, when the server
// cannot write; Details then hold the same fields.
func (c *caller) Health(ctx context.Context) (*Health, error) {
	return get[Health](ctx, c, call{method: http.MethodGet, path: "/health"}, statusShape)
}

// Metrics are all metrics, in the text format of Prometheus. 401 where the server wants the master key ([Admin] sends
// it); 404 where metrics are off.
func (c *caller) Metrics(ctx context.Context) (string, error) {
	return c.ReadText(ctx, "/v1/metrics")
}

// OpenAPI is the document of the REST routes. It needs no credential.
func (c *caller) OpenAPI(ctx context.Context) (map[string]any, error) {
	return c.readDocument(ctx, "/v1/openapi.json")
}

// AsyncAPI is the document of the WebSocket's frames. It needs no credential.
func (c *caller) AsyncAPI(ctx context.Context) (map[string]any, error) {
	return c.readDocument(ctx, "/v1/asyncapi.json")
}

func (c *caller) readDocument(ctx context.Context, path string) (map[string]any, error) {
	text, err := c.ReadText(ctx, path)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if json.Unmarshal([]byte(text), &document) != nil || len(document) == 0 {
		return nil, &NotChatAPIError{Call: "GET " + path, HTTPStatus: http.StatusOK, Reason: "no JSON document"}
	}
	return document, nil
}
