package chatapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// kind is a type of JSON values.
type kind int

const (
	aString kind = iota
	anInt
	aBool
	anObject
	aList
)

// shape names fields without which an object is not what was asked for, and their types.
type shape map[string]kind

// object is a JSON object whose fields are looked at one by one.
type object map[string]json.RawMessage

func parseObject(data []byte) (object, bool) {
	var value object
	if json.Unmarshal(data, &value) != nil || value == nil {
		return nil, false
	}
	return value, true
}

func isKind(value json.RawMessage, wanted kind) bool {
	if len(value) == 0 {
		return false
	}
	switch wanted {
	case aString:
		return value[0] == '"'
	case anInt:
		_, err := strconv.ParseInt(string(value), 10, 64)
		return err == nil
	case aBool:
		return value[0] == 't' || value[0] == 'f'
	case anObject:
		return value[0] == '{'
	default:
		return value[0] == '['
	}
}

func (o object) has(wanted shape) bool {
	for name, kind := range wanted {
		if !isKind(o[name], kind) {
			return false
		}
	}
	return true
}

// text is "" if there is no such string.
func (o object) text(name string) string {
	var value string
	if isKind(o[name], aString) {
		_ = json.Unmarshal(o[name], &value)
	}
	return value
}

// number is 0 if there is no such integer.
func (o object) number(name string) int64 {
	value, _ := strconv.ParseInt(string(o[name]), 10, 64)
	return value
}

func (o object) flag(name string) bool { return string(o[name]) == "true" }

// numbers reads an object of integers, such as `{room_id: seq}`; false if it is none.
func (o object) numbers(name string) (map[string]int64, bool) {
	var values map[string]int64
	if !isKind(o[name], anObject) || json.Unmarshal(o[name], &values) != nil {
		return nil, false
	}
	return values, true
}

// answer is a whole response to a call.
type answer struct {
	call    string // method and path
	status  int
	headers http.Header
	body    []byte
}

// data takes the envelope off; nil for the 204 of a deletion. The error is *APIError for what the server refuses, and
// *NotChatAPIError for every answer that is not the server's: anything may stand between it and a client, and a proxy's
// 404 says nothing about a room.
func (a answer) data(wanted shape) (json.RawMessage, error) {
	isDeletion := len(a.call) > 7 && a.call[:7] == "DELETE " && len(wanted) == 0
	if a.status == http.StatusNoContent && isDeletion {
		return nil, nil
	}
	envelope, _ := parseObject(a.body)
	data, isObject := parseObject(envelope["data"])
	isSuccess := string(envelope["success"]) == "true" && isNull(envelope["error"])
	if isSuccess && a.status >= 200 && a.status < 300 && !isDeletion && isObject && data.has(wanted) {
		return envelope["data"], nil
	}
	if string(envelope["success"]) == "false" && a.status >= 400 && (isNull(envelope["data"]) || len(data) == 0 && isObject) {
		failure, _ := parseObject(envelope["error"])
		if failure.has(shape{"code": aString, "message": aString}) {
			refusal := parseError(envelope["error"], a.status, parseRetryAfter(a.headers))
			refusal.RequestID = a.headers.Get("X-Request-Id")
			return nil, refusal
		}
	}
	return nil, a.foreign("HTTP %d without ChatAPI's envelope", a.status)
}

// text is the body of a route without an envelope.
func (a answer) text() (string, error) {
	if a.status == http.StatusOK {
		if !utf8.Valid(a.body) {
			return "", a.foreign("no text")
		}
		return string(a.body), nil
	}
	if _, err := a.data(nil); err != nil {
		return "", err
	}
	return "", a.foreign("HTTP %d without a text", a.status)
}

func (a answer) foreign(format string, values ...any) error {
	reason := fmt.Sprintf(format, values...)
	return &NotChatAPIError{Call: a.call, HTTPStatus: a.status, RetryAfter: parseRetryAfter(a.headers), Reason: reason}
}

func isNull(value json.RawMessage) bool {
	return len(value) == 0 || bytes.Equal(value, []byte("null"))
}

// parseRetryAfter is 0 unless the header is a whole number of seconds, as ChatAPI sends it.
func parseRetryAfter(headers http.Header) time.Duration {
	seconds, err := strconv.ParseUint(headers.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
