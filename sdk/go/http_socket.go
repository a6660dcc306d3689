package chatapi

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	eventWait    = 2 * time.Second // for the event of a change to come, once the call is answered
	queuedFrames = 100             // that wait for the session: beyond that nothing more is read
)

// httpSocket stands in for a WebSocket over HTTP alone: a frame becomes a call, and its answer the frame that answers it.
// `typing` is not told: it has no call.
type httpSocket struct {
	socketState
	client *Client
	ctx    context.Context
	fail   context.CancelCauseFunc
	queue  chan *frame
	code   atomic.Int64
	begin  func(sync map[string]any)                                     // everything since these cursors, then what is live
	follow func(ctx context.Context, roomID string, lastSeq int64) error // from now on also the events of this channel

	lock    sync.Mutex
	isOver  bool
	tasks   sync.WaitGroup
	looking map[*lookout]bool
}

// lookout waits for an event with these fields.
type lookout struct {
	fields map[string]string
	found  chan *frame // holds one
}

func (h *httpSocket) start(ctx context.Context, client *Client) {
	h.client = client
	h.ctx, h.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	h.queue = make(chan *frame, queuedFrames)
	h.looking = map[*lookout]bool{}
}

func (h *httpSocket) receive() (*frame, error) {
	select {
	case got := <-h.queue:
		return got, nil
	case <-h.ctx.Done():
		return nil, asEnded(context.Cause(h.ctx))
	}
}

func (h *httpSocket) put(ctx context.Context, got *frame) {
	h.lock.Lock()
	for looking := range h.looking {
		if looking.matches(got) {
			select {
			case looking.found <- got:
			default:
			}
		}
	}
	h.lock.Unlock()
	select {
	case h.queue <- got:
	case <-ctx.Done():
	}
}

func (l *lookout) matches(got *frame) bool {
	for name, value := range l.fields {
		if got.fields.text(name) != value {
			return false
		}
	}
	return true
}

// run does something as long as the socket lives. A failure ends it. False once it was aborted.
func (h *httpSocket) run(ctx context.Context, work func(context.Context) error) bool {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.isOver {
		return false
	}
	h.tasks.Add(1)
	go func() {
		defer h.tasks.Done()
		h.guard(work(ctx))
	}()
	return true
}

func (h *httpSocket) guard(err error) {
	if err != nil && h.ctx.Err() == nil {
		ended := asEnded(err)
		if ended.err == nil {
			if _, isRefusal := asRefusal(err); isRefusal {
				ended = &socketEnded{err: err}
			}
		}
		h.fail(ended)
	}
}

func (h *httpSocket) send(frames ...map[string]any) {
	for _, fields := range frames {
		_, isAsked := fields["request_id"]
		switch kind := fields["type"].(string); {
		case kind == "sync":
			h.begin(fields)
		case (kind == "ack" || kind == "notification.ack") && !isAsked:
			h.guard(h.answer(h.ctx, fields)) // also the last ones, before the socket is closed
		case kind != "typing.start" && kind != "typing.stop":
			h.run(h.ctx, func(ctx context.Context) error { return h.answer(ctx, fields) })
		}
	}
}

func (h *httpSocket) close() { h.abort() }

func (h *httpSocket) abort() {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.isOver = true
	h.fail(&socketEnded{})
}

func (h *httpSocket) wait()                   { h.tasks.Wait() }
func (h *httpSocket) closeCode() int          { return int(h.code.Load()) }
func (h *httpSocket) ackDelay() time.Duration { return 500 * time.Millisecond } // an ack is a call here, and takes a token

func (h *httpSocket) userID() string { return h.ready.fields.text("user_id") }

func (h *httpSocket) answer(ctx context.Context, fields map[string]any) error {
	answer, err := h.carryOut(ctx, fields)
	if err != nil {
		refusal, isRefusal := asRefusal(err)
		if !isRefusal || refusal.Status == 401 {
			return err
		}
		answer = describe(refusal)
	}
	if id, isAsked := fields["request_id"]; isAsked {
		answer["request_id"] = id
		got := makeFrame(answer)
		got.isCall = true
		h.put(ctx, got)
	}
	return nil
}

// describe is a refusal as a frame has it.
func describe(refusal *APIError) map[string]any {
	fields := map[string]any{"type": "error", "code": refusal.Code, "message": refusal.Message}
	if refusal.Field != "" {
		fields["field"] = refusal.Field
	}
	if refusal.Details != nil {
		fields["details"] = refusal.Details
	}
	if refusal.RetryAfter > 0 {
		fields["retry_after_ms"] = refusal.RetryAfter.Milliseconds()
	}
	return fields
}

// change makes a change. It returns the change's event; nil if none comes, since nothing has changed, or the room is not
// followed.
func (h *httpSocket) change(ctx context.Context, fields map[string]string, call func() error) (map[string]any, error) {
	looking := &lookout{fields, make(chan *frame, 1)}
	h.lock.Lock()
	h.looking[looking] = true
	h.lock.Unlock()
	defer func() {
		h.lock.Lock()
		defer h.lock.Unlock()
		delete(h.looking, looking)
	}()
	if err := call(); err != nil {
		return nil, err
	}
	timer := time.NewTimer(eventWait)
	defer timer.Stop()
	select {
	case got := <-looking.found:
		return fieldsOf(got.data), nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func fieldsOf(data json.RawMessage) map[string]any {
	fields, _ := parseObject(data)
	result := make(map[string]any, len(fields))
	for name, value := range fields {
		result[name] = value
	}
	return result
}

// bodyOf is the fields of a frame that are in the body of a call.
func bodyOf(fields map[string]any) map[string]any {
	body := maps.Clone(fields)
	for _, name := range []string{"type", "request_id", "room_id", "message_id"} {
		delete(body, name)
	}
	return body
}
