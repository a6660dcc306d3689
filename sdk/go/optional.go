package chatapi

import (
	"net/url"
	"strconv"
)

// Optional is a value of a change: not given (the zero value), [Set], or cleared with [Null].
type Optional[T any] struct {
	value  *T
	isNull bool
}

// Set gives a value.
func Set[T any](value T) Optional[T] { return Optional[T]{value: &value} }

// Null clears a field.
func Null[T any]() Optional[T] { return Optional[T]{isNull: true} }

func (o Optional[T]) put(body map[string]any, name string) {
	if o.value != nil {
		body[name] = *o.value
	} else if o.isNull {
		body[name] = nil
	}
}

// Page chooses a part of a list: up to Limit items (0 stands for 50, the most is 100), after Offset others or, with
// Cursor, where the page with this NextCursor ended. With a cursor nothing is skipped while the list changes.
type Page struct {
	Limit  int
	Offset int
	Cursor string
}

func (p Page) query() query {
	return query{}.number("limit", int64(p.Limit)).number("offset", int64(p.Offset)).text("cursor", p.Cursor)
}

// PageEnd says whether more items follow those of a page.
type PageEnd struct {
	HasMore    bool   `json:"has_more"`
	NextCursor string `json:"next_cursor"` // "" where there is nothing more
}

// query is built of what says something.
type query url.Values

func (q query) text(name, value string) query {
	if value != "" {
		q[name] = []string{value}
	}
	return q
}

func (q query) number(name string, value int64) query {
	if value != 0 {
		q[name] = []string{strconv.FormatInt(value, 10)}
	}
	return q
}

func (q query) flag(name string, value bool) query {
	if value {
		q[name] = []string{"true"}
	}
	return q
}

func (q query) values() url.Values { return url.Values(q) }

func escape(part string) string { return url.PathEscape(part) }

func roomPath(roomID string) string { return "/rooms/" + escape(roomID) }

func memberPath(roomID, userID string) string { return roomPath(roomID) + "/members/" + escape(userID) }

func messagePath(roomID, messageID string) string {
	return roomPath(roomID) + "/messages/" + escape(messageID)
}

func userPath(userID string) string { return "/users/" + escape(userID) }
