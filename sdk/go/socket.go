package chatapi

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

const (
	connectTimeout   = 15 * time.Second // from the first byte to `ready`, and for each further part of it
	closeTimeout     = 2 * time.Second  // for the server's half of the goodbye
	writeTimeout     = 30 * time.Second
	maxFrameBytes    = 64 << 20 // an older server names every room in one `ready`: enough for some hundred thousand
	unauthenticated  = 4001     // the close code for a credential that is none, expired or was revoked
	defaultHeartbeat = 30 * time.Second
)

// socket is a WebSocket, or what stands in for one over HTTP alone.
type socket interface {
	// receive fails with *socketEnded. One goroutine calls it at a time.
	receive() (*frame, error)
	// send: a frame that gets lost with the socket is the sender's to repeat. Each begins in the order of the calls.
	send(frames ...map[string]any)
	// close says goodbye; the server's half of it ends receive.
	close()
	// abort ends the socket at once, and what waits for it.
	abort()
	// wait returns when nothing of the socket runs any more, once it was aborted.
	wait()
	// closeCode is 0 while the server has not closed it.
	closeCode() int
	// ackDelay makes one ack of a burst of messages.
	ackDelay() time.Duration
	common() *socketState
}

// socketState is what all sockets have.
type socketState struct {
	ready     *frame
	heartbeat time.Duration
	early     []*frame // frames that came between the parts of `ready`
	heard     atomic.Int64
	mu        sync.Mutex
	refusal   *APIError // the newest `error` frame that answered nothing
}

func (s *socketState) common() *socketState { return s }
func (s *socketState) hear()                { s.heard.Store(time.Now().UnixNano()) }

func (s *socketState) silence() time.Duration {
	return time.Duration(time.Now().UnixNano() - s.heard.Load())
}

func (s *socketState) refuse(refusal *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = refusal
}

// next is the next frame, also one that came between the parts of `ready`.
func next(s socket) (*frame, error) {
	state := s.common()
	if len(state.early) > 0 {
		got := state.early[0]
		state.early = state.early[1:]
		return got, nil
	}
	return s.receive()
}

// receiveReady returns once `ready` and all its parts are there. Each part has its time.
func receiveReady(ctx context.Context, s socket) error {
	state := s.common()
	timer := time.AfterFunc(connectTimeout, s.abort)
	defer timer.Stop()
	defer context.AfterFunc(ctx, s.abort)()
	var parts []json.RawMessage
	for isMore := true; isMore; {
		got, err := s.receive()
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if refusal := findRefusal(s); refusal != nil {
				return refusal
			}
			return err
		case state.ready == nil && got.kind == "ready":
			state.ready = got
			isMore = got.fields.flag("more")
		case state.ready == nil && got.kind == "error":
			state.refuse(parseError(got.data, 0, 0))
		case state.ready == nil: // a newer server's, before ready
			state.early = append(state.early, got)
		case got.kind == "ready.rooms":
			parts = append(parts, got.fields["rooms"])
			isMore = got.fields.flag("more")
		default:
			state.early = append(state.early, got)
		}
		timer.Reset(connectTimeout)
	}
	state.ready = readyFrame(state.ready, parts)
	state.heartbeat = readHeartbeat(state.ready)
	state.hear()
	return nil
}

func readHeartbeat(ready *frame) time.Duration {
	var seconds float64
	if json.Unmarshal(ready.fields["heartbeat_seconds"], &seconds) != nil || seconds <= 0 || seconds > 1e6 {
		return defaultHeartbeat
	}
	return time.Duration(seconds * float64(time.Second))
}

// findRefusal is why the server did not accept the credential of a socket that has ended, if that was the reason. A close
// code alone could be anybody's, unless it was the server that had said `ready`.
func findRefusal(s socket) *APIError {
	state := s.common()
	if s.closeCode() != unauthenticated {
		return nil
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.refusal != nil && state.refusal.Code == CodeAuthentication {
		return state.refusal
	}
	if state.ready == nil {
		return nil
	}
	return &APIError{Code: CodeAuthentication, Status: 401, Message: "The server refused the credential"}
}
