package chatapi

import (
	"slices"
	"time"
)

const shownUsers = 20 // of one emoji

// ParseEvent reads an event that was kept as JSON, such as Raw of another one. It fails with *[NotChatAPIError].
func ParseEvent(data []byte) (Event, error) {
	got, err := parseFrame(data)
	if err != nil {
		return nil, err
	}
	return newEvent(got), nil
}

// ApplyEvent is a message that an application keeps, after an event of its room; the same one if the event does not
// concern it.
//
// Events say what holds from now on, so that one which the message shows already does no harm: read the history first,
// and apply each event that comes, in order. UserIDs of a reaction are exact as long as it has had no more than 20 users;
// for more, read the message again. A deletion has no time of its own: DeletedAt is the present.
//
// A stream grows by *[MessageDeltaEvent] and *[MessageStateEvent], and *[MessageCancelRequestedEvent] shows in its
// Stream. A delta that does not go on where the message ends changes nothing: read the message again when its After is
// greater than the message's Stream.Index.
func ApplyEvent(message Message, event Event) Message {
	switch event := event.(type) {
	case *MessageEvent:
		return applyWhole(message, event.Message, event.place.Seq)
	case *MessageEditedEvent:
		return applyWhole(message, event.Message, 0)
	case *MessageFinishedEvent:
		return applyWhole(message, event.Message, 0)
	case *MessageStateEvent:
		if event.Message.MessageID == message.MessageID && message.DeletedAt == nil && !isBehind(event.Message, message) {
			return keepWish(event.Message, message)
		}
	case *MessageCancelRequestedEvent:
		if event.MessageID == message.MessageID && message.DeletedAt == nil {
			return applyWish(message)
		}
	case *MessageDeletedEvent:
		return applyDeletion(message, event)
	case *MessageDeltaEvent:
		return applyDelta(message, event)
	case *ReactionEvent:
		if event.MessageID == message.MessageID && message.DeletedAt == nil {
			return applyReaction(message, event)
		}
	case *PinEvent:
		if event.MessageID == message.MessageID && message.DeletedAt == nil {
			message.raw = raw{}
			message.PinnedAt = event.PinnedAt // nil of one that was unpinned
		}
	}
	return message
}

// applyWhole: shown is the message itself, or a reply to it; seq is that of a new message.
func applyWhole(message, shown Message, seq int64) Message {
	if shown.ThreadID == message.MessageID && message.MessageID != "" {
		return applyReply(message, shown, seq)
	}
	if shown.MessageID != message.MessageID || isBehind(shown, message) {
		return message
	}
	shown.Thread = message.Thread
	if shown.DeletedAt == nil {
		shown.Reactions, shown.PinnedAt = message.Reactions, message.PinnedAt
	}
	return keepWish(shown, message)
}

// keepWish: a wish to cancel is never taken back; a message without it was read before it came.
func keepWish(shown, message Message) Message {
	if message.Stream != nil && message.Stream.CancelRequested {
		return applyWish(shown)
	}
	return shown
}

func applyWish(message Message) Message {
	if !message.Stream.IsOpen() {
		return message
	}
	stream := *message.Stream
	stream.CancelRequested = true
	message.raw, message.Stream = raw{}, &stream
	return message
}

// isBehind tells whether this shows an open stream as it was before.
func isBehind(shown, message Message) bool {
	if !shown.Stream.IsOpen() {
		return false
	}
	return !message.Stream.IsOpen() || shown.Stream.Index < message.Stream.Index
}

// applyReply: a reply is counted once, since the thread tells up to which seq it has counted.
func applyReply(message, reply Message, seq int64) Message {
	if seq == 0 || reply.DeletedAt != nil || (message.Thread != nil && seq <= message.Thread.LastReplySeq) {
		return message
	}
	thread := ThreadSummary{ReplyCount: 1, LastReplySeq: seq, LastReplyAt: reply.CreatedAt}
	if message.Thread != nil {
		thread.ReplyCount += message.Thread.ReplyCount
	}
	message.raw, message.Thread = raw{}, &thread
	return message
}

func applyDeletion(message Message, event *MessageDeletedEvent) Message {
	if event.ThreadID == message.MessageID && message.MessageID != "" {
		message.raw, message.Thread = raw{}, event.Thread
		return message
	}
	if event.MessageID != message.MessageID {
		return message
	}
	message.raw = raw{}
	message.Content, message.Meta, message.Reactions, message.PinnedAt = "", nil, nil, nil
	message.Mentions, message.MentionRoom, message.Stream = nil, false, nil
	if message.DeletedAt == nil {
		now := time.Now().UTC()
		message.DeletedAt = &now
	}
	return message
}

func applyDelta(message Message, event *MessageDeltaEvent) Message {
	stream := message.Stream
	if event.MessageID != message.MessageID || message.DeletedAt != nil || !stream.IsOpen() || stream.Index != event.After {
		return message
	}
	grown := *stream
	grown.Index = event.Index
	message.raw, message.Stream = raw{}, &grown
	message.Content += event.Text
	return message
}

func applyReaction(message Message, event *ReactionEvent) Message {
	reactions := slices.Clone(message.Reactions)
	at := slices.IndexFunc(reactions, func(one ReactionSummary) bool { return one.Emoji == event.Emoji })
	var userIDs []string
	if at >= 0 {
		userIDs = slices.DeleteFunc(slices.Clone(reactions[at].UserIDs), func(id string) bool { return id == event.UserID })
	}
	if event.kind == "reaction.added" {
		if event.Count == 1 && at >= 0 { // a new one, also if the message showed it before: it comes last, and has this user alone
			reactions = slices.Delete(reactions, at, at+1)
			at, userIDs = -1, nil
		}
		if event.Count <= shownUsers {
			userIDs = append(userIDs, event.UserID)
		}
	}
	summary := ReactionSummary{event.Emoji, event.Count, userIDs[:min(len(userIDs), shownUsers)]}
	switch {
	case at >= 0 && event.Count > 0:
		reactions[at] = summary
	case at >= 0:
		reactions = slices.Delete(reactions, at, at+1)
	case event.Count > 0:
		reactions = append(reactions, summary)
	}
	if len(reactions) == 0 {
		reactions = nil
	}
	message.raw, message.Reactions = raw{}, reactions
	return message
}
