package chatapi

import (
	"context"
	"encoding/json"
	"net/http"
)

// carryOut makes the call of a frame, and returns the frame that answers it.
func (h *httpSocket) carryOut(ctx context.Context, fields map[string]any) (map[string]any, error) {
	roomID, _ := fields["room_id"].(string)
	messageID, _ := fields["message_id"].(string)
	switch fields["type"] {
	case "send_message":
		return h.sendMessage(ctx, roomID, bodyOf(fields))
	case "message.edit":
		return h.changeMessage(ctx, "message.edited", roomID, messageID, call{
			method: http.MethodPut, path: messagePath(roomID, messageID), body: bodyOf(fields),
		})
	case "message.finish":
		return h.changeMessage(ctx, "message.finished", roomID, messageID, call{
			method: http.MethodPost, path: messagePath(roomID, messageID) + "/finish", body: bodyOf(fields), repeat: true,
		})
	case "message.delete":
		return h.deleteMessage(ctx, roomID, messageID)
	case "message.append":
		got, err := h.client.AppendToMessage(ctx, roomID, messageID, fields["index"].(int), fields["text"].(string))
		if err != nil {
			return nil, err
		}
		return map[string]any{
			"type": "message.appended", "message_id": messageID, "index": got.Index, "cancel_requested": got.CancelRequested,
		}, nil
	case "message.cancel":
		return ofType("message.cancel_requested"), h.client.CancelMessage(ctx, roomID, messageID)
	case "reaction.add", "reaction.remove":
		return h.react(ctx, fields["type"] == "reaction.add", roomID, messageID, fields["emoji"].(string))
	case "subscribe":
		return h.subscribe(ctx, roomID)
	case "unsubscribe":
		return ofType("unsubscribed"), nil
	case "ping":
		_, err := h.client.Livez(ctx)
		return ofType("pong"), err
	}
	return h.acknowledge(ctx, roomID, fields)
}

// ofType is an answer that says nothing else.
func ofType(kind string) map[string]any { return map[string]any{"type": kind} }

func (h *httpSocket) acknowledge(ctx context.Context, roomID string, fields map[string]any) (map[string]any, error) {
	if fields["type"] == "notification.ack" {
		return ofType("acked"), h.client.AckNotification(ctx, fields["notification_id"].(string))
	}
	if rooms, isOfMany := fields["rooms"].(map[string]int64); isOfMany {
		_, err := h.client.AckRooms(ctx, rooms)
		return ofType("acked"), err
	}
	kind, acknowledge := "ack.received", h.client.Ack
	if fields["type"] == "read" {
		kind, acknowledge = "read.updated", h.client.MarkRead
	}
	position, err := acknowledge(ctx, roomID, fields["seq"].(int64))
	if err != nil {
		return nil, err
	}
	return map[string]any{"type": kind, "room_id": position.RoomID, "seq": position.Seq, "user_id": h.userID()}, nil
}

func (h *httpSocket) sendMessage(ctx context.Context, roomID string, body map[string]any) (map[string]any, error) {
	message, err := h.client.sendFields(ctx, roomID, body)
	if err != nil {
		return nil, err
	}
	all, answer := fieldsOf(message.Raw()), ofType("message.sent")
	for _, name := range []string{"room_id", "message_id", "seq", "client_message_id", "created_at", "stream"} {
		if value, isThere := all[name]; isThere {
			answer[name] = value
		}
	}
	return answer, nil
}

func (h *httpSocket) changeMessage(ctx context.Context, kind, roomID, messageID string, c call) (map[string]any, error) {
	var data json.RawMessage
	event, err := h.change(ctx, idsOf(kind, roomID, messageID), func() error {
		return h.client.ask(ctx, c, messageShape, &data)
	})
	if err != nil || event != nil {
		return event, err
	}
	answer := fieldsOf(data)
	answer["type"], answer["target_seq"] = kind, answer["seq"]
	return answer, nil
}

func (h *httpSocket) deleteMessage(ctx context.Context, roomID, messageID string) (map[string]any, error) {
	event, err := h.change(ctx, idsOf("message.deleted", roomID, messageID), func() error {
		return h.client.DeleteMessage(ctx, roomID, messageID)
	})
	if err == nil && event == nil {
		event = ofType("message.deleted")
	}
	return event, err
}

func idsOf(kind, roomID, messageID string) map[string]string {
	return map[string]string{"type": kind, "room_id": roomID, "message_id": messageID}
}

func (h *httpSocket) react(ctx context.Context, adds bool, roomID, messageID, emoji string) (map[string]any, error) {
	kind := "reaction.removed"
	if adds {
		kind = "reaction.added"
	}
	looked := idsOf(kind, roomID, messageID)
	looked["emoji"], looked["user_id"] = emoji, h.userID()
	event, err := h.change(ctx, looked, func() error {
		if adds {
			_, err := h.client.AddReaction(ctx, roomID, messageID, emoji)
			return err
		}
		return h.client.RemoveReaction(ctx, roomID, messageID, emoji)
	})
	if err != nil || event != nil {
		return event, err
	}
	message, err := h.client.GetMessage(ctx, roomID, messageID)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"count": 0, "target_seq": message.Seq}
	for name, value := range looked {
		answer[name] = value
	}
	for _, reaction := range message.Reactions {
		if reaction.Emoji == emoji {
			answer["count"] = reaction.Count
		}
	}
	return answer, nil
}

func (h *httpSocket) subscribe(ctx context.Context, roomID string) (map[string]any, error) {
	room, err := h.client.GetRoom(ctx, roomID)
	if err != nil {
		return nil, err
	}
	if _, err := h.client.ListEvents(ctx, roomID, room.LastSeq, 1); err != nil { // whether the user may read it
		return nil, err
	}
	if err := h.follow(ctx, roomID, room.LastSeq); err != nil {
		return nil, err
	}
	return map[string]any{"type": "subscribed", "room_id": roomID, "last_seq": room.LastSeq}, nil
}
