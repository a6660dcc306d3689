package chatapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// SyncQuery asks for what comes after the cursors in Rooms; after the last acknowledged event in rooms that it does not
// name. Give the Epoch and the Rooms of the answer with the next call.
type SyncQuery struct {
	Epoch             string
	Rooms             map[string]int64
	Wait              time.Duration // until there is something, in whole seconds, up to 60 s
	Limit             int           // of events, 1 to 1,000; 0 stands for 100
	AfterNotification string        // the newest one that is known; at most 25 come
}

// SkippedEvents are events that retention has removed, both ends included.
type SkippedEvents struct {
	RoomID  string `json:"room_id"`
	FromSeq int64  `json:"from_seq"`
	ToSeq   int64  `json:"to_seq"`
}

// Synced is what has happened since. Reset holds rooms whose cursors cannot be right, and where they begin instead;
// Errors rooms that the user may not read.
type Synced struct {
	Epoch         string
	Events        []Event
	Rooms         map[string]int64
	Reset         map[string]int64
	Gaps          []SkippedEvents
	Notifications []Notification
	Errors        map[string]*APIError
	HasMore       bool
}

type syncedFrames struct {
	Epoch         string                     `json:"epoch"`
	Events        []json.RawMessage          `json:"events"`
	Rooms         map[string]int64           `json:"rooms"`
	Reset         map[string]int64           `json:"reset"`
	Gaps          []SkippedEvents            `json:"gaps"`
	Notifications []json.RawMessage          `json:"notifications"`
	Errors        map[string]json.RawMessage `json:"errors"`
	HasMore       bool                       `json:"has_more"`
}

// Sync is one long poll. A [Connection] makes them by itself where nothing better passes. 429 if the user has too many
// connections.
func (c *Client) Sync(ctx context.Context, q SyncQuery) (*Synced, error) {
	frames, err := c.syncFrames(ctx, q)
	if err != nil {
		return nil, err
	}
	synced := &Synced{
		Epoch: frames.Epoch, Rooms: frames.Rooms, Reset: frames.Reset, Gaps: frames.Gaps,
		Errors: map[string]*APIError{}, HasMore: frames.HasMore,
	}
	for _, data := range frames.Events {
		if frame, err := parseFrame(data); err == nil {
			synced.Events = append(synced.Events, newEvent(frame))
		}
	}
	for _, data := range frames.Notifications {
		var notification Notification
		if json.Unmarshal(data, &notification) == nil {
			synced.Notifications = append(synced.Notifications, notification)
		}
	}
	for roomID, data := range frames.Errors {
		synced.Errors[roomID] = parseError(data, 0, 0)
	}
	return synced, nil
}

func (c *Client) syncFrames(ctx context.Context, q SyncQuery) (*syncedFrames, error) {
	seconds := int64(q.Wait / time.Second)
	body := map[string]any{"wait": seconds}
	if q.Epoch != "" {
		body["epoch"] = q.Epoch
	}
	if q.Rooms != nil {
		body["rooms"] = q.Rooms
	}
	if q.Limit != 0 {
		body["limit"] = q.Limit
	}
	if q.AfterNotification != "" {
		body["after_notification"] = q.AfterNotification
	}
	asked := call{method: http.MethodPost, path: "/sync", body: body, repeat: true, wait: time.Duration(seconds) * time.Second}
	wanted := shape{"epoch": aString, "events": aList, "rooms": anObject, "has_more": aBool}
	return get[syncedFrames](ctx, &c.caller, asked, wanted)
}
