package chatapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Code is the code of a refusal. A newer server may have codes that are not named here.
type Code string

const (
	CodeValidation     Code = "VALIDATION_ERROR"
	CodeAuthentication Code = "AUTHENTICATION_ERROR"
	CodeAuthorization  Code = "AUTHORIZATION_ERROR"
	CodeNotFound       Code = "NOT_FOUND"
	CodeConflict       Code = "CONFLICT"
	CodeRateLimit      Code = "RATE_LIMIT_EXCEEDED"
	CodeTenantMoved    Code = "TENANT_MOVED"
	CodeInternal       Code = "INTERNAL_ERROR"
)

var statusOfCode = map[Code]int{
	CodeValidation:     400,
	CodeAuthentication: 401,
	CodeAuthorization:  403,
	CodeNotFound:       404,
	CodeConflict:       409,
	CodeTenantMoved:    421,
	CodeRateLimit:      429,
	CodeInternal:       500,
}

var (
	// ErrNoAnswer is what errors.Is finds in an error if the server gave no answer: it could not be reached
	// (*[NoAnswerError]), something else answered (*[NotChatAPIError]), or there was no token to ask with
	// (*[TokenError]).
	ErrNoAnswer = errors.New("no answer of the server")

	// ErrClosed is what errors.Is finds in the error of a call whose connection was closed before the answer came.
	ErrClosed = errors.New("the connection is closed")
)

// APIError is a refusal of the server.
type APIError struct {
	Code       Code
	Status     int // the HTTP status; over a WebSocket the one that the code has over HTTP
	Message    string
	Field      string         // the part of the request that is at fault, if it is one
	Details    map[string]any // what the code's documentation names; nil if there is nothing
	RetryAfter time.Duration  // 0 if the server named none
	RequestID  string         // to look for in the server's log; of REST calls only
}

func (e *APIError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s (%s)", e.Code, e.Message, e.Field)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// mayPass tells whether the same is worth another try soon: a limit, or a fault of the server. A user in slow mode has
// to hear of it instead.
func (e *APIError) mayPass() bool {
	_, isSlowMode := e.Details["slow_mode_until"]
	return (e.Status == 429 && !isSlowMode) || e.Status >= 500
}

// NoAnswerError says that the server could not be reached, or did not answer in time, on every try. It is not known
// whether the server has carried out the call.
type NoAnswerError struct {
	Call string // method and path
	Err  error
}

func (e *NoAnswerError) Error() string        { return fmt.Sprintf("%s: no answer: %v", e.Call, e.Err) }
func (e *NoAnswerError) Unwrap() error        { return e.Err }
func (e *NoAnswerError) Is(target error) bool { return target == ErrNoAnswer }

// NotChatAPIError says that something else answered, such as a proxy with a page of its own. It is not known whether
// the server has carried out the call. HTTPStatus says nothing about rooms or messages.
type NotChatAPIError struct {
	Call       string
	HTTPStatus int           // 0 if it was no HTTP at all
	RetryAfter time.Duration // as the answer asked for
	Reason     string
}

func (e *NotChatAPIError) Error() string {
	return fmt.Sprintf("%s: not ChatAPI: %s", e.Call, e.Reason)
}
func (e *NotChatAPIError) Is(target error) bool { return target == ErrNoAnswer }

// TokenError says that a [TokenSource] failed, or returned something that cannot be a token. Nothing was sent.
type TokenError struct{ Err error }

func (e *TokenError) Error() string        { return fmt.Sprintf("no token: %v", e.Err) }
func (e *TokenError) Unwrap() error        { return e.Err }
func (e *TokenError) Is(target error) bool { return target == ErrNoAnswer }

// UnconfirmedError says that a message was given up before the server had confirmed or refused it: its context ended,
// or the connection was closed. The server may have stored it; with the same ClientMessageID it is safe to send it
// again.
type UnconfirmedError struct {
	ClientMessageID string
	Err             error
}

func (e *UnconfirmedError) Error() string { return fmt.Sprintf("message not confirmed: %v", e.Err) }
func (e *UnconfirmedError) Unwrap() error { return e.Err }

// wireError is the error of an envelope, or an `error` frame.
type wireError struct {
	Code    *string         `json:"code"`
	Message *string         `json:"message"`
	Field   json.RawMessage `json:"field"`
	Details json.RawMessage `json:"details"`
}

// parseError makes the refusal; nil if it has no code. A frame (status 0) whose code is unknown was refused for good
// (400), unless the server says when to try again (429).
func parseError(data json.RawMessage, status int, retryAfter time.Duration) *APIError {
	var wire wireError
	if json.Unmarshal(data, &wire) != nil || wire.Code == nil {
		return nil
	}
	refusal := &APIError{Code: Code(*wire.Code), Status: status, RetryAfter: retryAfter}
	if wire.Message != nil {
		refusal.Message = *wire.Message
	}
	_ = json.Unmarshal(wire.Field, &refusal.Field) // of another shape: a newer server's
	_ = json.Unmarshal(wire.Details, &refusal.Details)
	if status == 0 {
		refusal.Status = statusOfCode[refusal.Code]
		if refusal.Status == 0 && retryAfter > 0 {
			refusal.Status = 429
		} else if refusal.Status == 0 {
			refusal.Status = 400
		}
	}
	return refusal
}

func asRefusal(err error) (*APIError, bool) {
	var refusal *APIError
	return refusal, errors.As(err, &refusal)
}
