package chatapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"
)

const (
	pollWait   = 25 * time.Second // of one call: less than proxies wait for an answer
	pollEvents = 500
)

// pollSocket is a connection by long polls: one call after the other, each for what comes after the cursors. It brings
// events of logs and notifications, and no other frames.
type pollSocket struct {
	httpSocket
	polling sync.Mutex
	cursors map[string]int64
	skip    context.CancelFunc // ends the present call
}

func openPoll(ctx context.Context, client *Client) (socket, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	p := &pollSocket{cursors: map[string]int64{}}
	p.start(ctx, client)
	p.begin, p.follow = p.beginAt, p.followRoom
	userID, err := client.keys.userID(ctx)
	if err != nil {
		return nil, err
	}
	first, err := client.syncFrames(ctx, SyncQuery{Limit: 1})
	if err != nil {
		return nil, err
	}
	rooms, err := listForReady(ctx, client)
	if err != nil {
		return nil, err
	}
	p.ready = makeFrame(map[string]any{
		"type": "ready", "connection_id": "", "user_id": userID, "epoch": first.Epoch,
		"heartbeat_seconds": 2 * pollWait.Seconds(), "rooms": rooms,
	})
	p.heartbeat = 2 * pollWait
	p.hear()
	return p, nil
}

// listForReady is the user's rooms, as a `ready` has them.
func listForReady(ctx context.Context, client *Client) ([]map[string]any, error) {
	rooms := []map[string]any{}
	for q := (RoomQuery{Page: Page{Limit: 100}, Hidden: true}); ; {
		page, err := client.ListRooms(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, room := range page.Rooms {
			rooms = append(rooms, map[string]any{
				"room_id": room.RoomID, "type": room.Type, "last_seq": room.LastSeq, "last_ack": room.LastAck,
				"last_read": room.LastRead, "unread_mentions": room.UnreadMentions, "notify": room.Notify, "hidden": room.Hidden,
			})
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return rooms, nil
		}
	}
}

func (p *pollSocket) beginAt(fields map[string]any) {
	p.polling.Lock()
	p.cursors = maps.Clone(fields["rooms"].(map[string]int64))
	p.polling.Unlock()
	epoch, _ := fields["epoch"].(string)
	p.run(p.ctx, func(ctx context.Context) error { return p.poll(ctx, epoch, fields["request_id"].(string)) })
}

func (p *pollSocket) followRoom(_ context.Context, roomID string, lastSeq int64) error {
	p.polling.Lock()
	defer p.polling.Unlock()
	p.cursors[roomID] = lastSeq
	if p.skip != nil {
		p.skip() // its events come with the next call
	}
	return nil
}

func (p *pollSocket) poll(ctx context.Context, epoch, requestID string) error {
	afterNotification := ""
	for {
		query := SyncQuery{Epoch: epoch, Limit: pollEvents, AfterNotification: afterNotification}
		if requestID == "" {
			query.Wait = pollWait
		}
		synced, err := p.ask(ctx, query)
		if err != nil {
			return err
		}
		if synced == nil {
			continue
		}
		p.hear()
		if len(synced.Reset) > 0 || epoch != "" && epoch != synced.Epoch {
			p.put(ctx, makeFrame(map[string]any{"type": "sync.reset", "epoch": synced.Epoch, "rooms": synced.Reset}))
		}
		epoch = synced.Epoch
		if err := p.handOver(ctx, synced, requestID); err != nil {
			return err
		}
		if n := len(synced.Notifications); n > 0 {
			last, _ := parseObject(synced.Notifications[n-1])
			afterNotification = last.text("notification_id")
		}
		if requestID != "" && !synced.HasMore {
			p.complete(ctx, requestID)
			requestID = ""
		}
	}
}

// ask is nil if the connection follows another channel from now on.
func (p *pollSocket) ask(ctx context.Context, query SyncQuery) (*syncedFrames, error) {
	asked, skip := context.WithCancel(ctx)
	defer skip()
	p.polling.Lock()
	p.skip = skip
	query.Rooms = maps.Clone(p.cursors)
	p.polling.Unlock()
	synced, err := p.client.syncFrames(asked, query)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil, nil
	}
	return synced, err
}

func (p *pollSocket) handOver(ctx context.Context, synced *syncedFrames, requestID string) error {
	for _, gap := range synced.Gaps {
		p.put(ctx, makeFrame(map[string]any{
			"type": "sync.gap", "room_id": gap.RoomID, "from_seq": gap.FromSeq, "to_seq": gap.ToSeq,
		}))
	}
	for _, data := range synced.Events {
		if err := p.putData(ctx, data); err != nil {
			return err
		}
	}
	for roomID, data := range synced.Errors {
		p.putLost(ctx, roomID, data, requestID)
	}
	for _, data := range synced.Notifications {
		fields := fieldsOf(data)
		fields["type"] = "notification"
		p.put(ctx, makeFrame(fields))
	}
	p.polling.Lock()
	defer p.polling.Unlock()
	maps.Copy(p.cursors, synced.Rooms)
	return nil
}

func (p *pollSocket) putData(ctx context.Context, data json.RawMessage) error {
	got, err := parseFrame(data)
	if err != nil {
		return &socketEnded{err: err}
	}
	p.put(ctx, got)
	return nil
}

// putLost says that the user may not read a room.
func (p *pollSocket) putLost(ctx context.Context, roomID string, data json.RawMessage, requestID string) {
	p.polling.Lock()
	delete(p.cursors, roomID)
	p.polling.Unlock()
	fields := fieldsOf(data)
	failure, _ := parseObject(data)
	if requestID == "" && failure.text("code") == string(CodeNotFound) {
		p.put(ctx, makeFrame(map[string]any{"type": "room.deleted", "room_id": roomID}))
		return
	}
	fields["type"], fields["field"] = "error", "rooms."+roomID
	if requestID != "" {
		fields["request_id"] = requestID
	}
	p.put(ctx, makeFrame(fields))
}

func (p *pollSocket) complete(ctx context.Context, requestID string) {
	p.polling.Lock()
	rooms := maps.Clone(p.cursors)
	p.polling.Unlock()
	p.put(ctx, makeFrame(map[string]any{"type": "sync.complete", "rooms": rooms, "request_id": requestID}))
}
