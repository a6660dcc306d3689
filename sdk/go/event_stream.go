package chatapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const maxCursorsBytes = 6000 // of JSON: 8,000 characters of base64, of which the server takes 8 KiB

// eventStream is a connection over Server-Sent Events: frames come in one response that does not end.
type eventStream struct {
	httpSocket
	renewing   sync.Mutex    // one response takes over from another at a time
	stopReader func()        // of the present response, and waits for it
	hasBegun   chan struct{} // closed once `sync` is done with

	asking    sync.Mutex
	requestID string           // of the sync, until it is answered
	rooms     map[string]int64 // that it named
}

func openEventStream(ctx context.Context, client *Client) (socket, error) {
	s := &eventStream{hasBegun: make(chan struct{}), rooms: map[string]int64{}, stopReader: func() {}}
	s.start(ctx, client)
	s.begin, s.follow = s.beginAt, s.followRoom
	release := context.AfterFunc(ctx, s.abort)
	defer release()
	err := s.readAnew(nil, false)
	if err == nil {
		err = receiveReady(ctx, s)
	}
	if err != nil {
		s.abort()
		s.wait()
		return nil, err
	}
	return s, nil
}

// readAnew begins another response. It says `ready` again, which is left out if skipsReady.
func (s *eventStream) readAnew(cursors map[string]any, skipsReady bool) error {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	ctx, cancel := context.WithCancel(s.ctx)
	body, err := s.dial(ctx, cancel, cursors)
	if err != nil {
		cancel()
		return err
	}
	s.stopReader()
	done := make(chan struct{})
	s.stopReader = func() { cancel(); <-done }
	end := func() { cancel(); body.Close(); close(done) }
	isRunning := s.run(ctx, func(ctx context.Context) error {
		defer end()
		err := s.read(ctx, body, skipsReady)
		if ctx.Err() != nil && s.ctx.Err() == nil {
			return nil // another response takes over
		}
		return err
	})
	if !isRunning {
		end()
		return &socketEnded{}
	}
	return nil
}

func (s *eventStream) dial(ctx context.Context, cancel func(), cursors map[string]any) (io.ReadCloser, error) {
	defer time.AfterFunc(connectTimeout, cancel).Stop()
	headers, err := s.client.keys.headers(ctx)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	if cursors != nil {
		data, err := encode(cutCursors(cursors))
		if err != nil {
			return nil, err
		}
		query.Set("cursors", base64.URLEncoding.EncodeToString(data))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.client.http.locate("/v1/events/stream", query), nil)
	if err != nil {
		return nil, err
	}
	request.Header = headers
	response, err := s.client.http.client.Do(request)
	if err != nil {
		return nil, &NoAnswerError{"the event stream", err}
	}
	if response.StatusCode == http.StatusOK && strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response.Body, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	got := answer{"the event stream", response.StatusCode, response.Header, body}
	if _, err := got.data(nil); err != nil {
		return nil, err
	}
	return nil, got.foreign("another answer")
}

// read ends with the response.
func (s *eventStream) read(ctx context.Context, body io.Reader, isReady bool) error {
	skipsReady := isReady
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxFrameBytes)
	for lines.Scan() {
		s.hear()
		data, isData := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !isData {
			continue
		}
		got, err := parseFrame(bytes.Clone(data))
		if err != nil {
			return &socketEnded{err: err}
		}
		if got.kind == "ready" || got.kind == "ready.rooms" {
			isReady = true
			if !skipsReady {
				s.put(ctx, got)
			}
			continue
		}
		if isReady { // a newer server may send frames before
			select {
			case <-s.hasBegun:
			case <-ctx.Done():
				return nil
			}
		}
		if got.kind == "close" {
			s.code.Store(got.fields.number("code"))
			return &socketEnded{}
		}
		s.put(ctx, s.mark(got))
	}
	return &socketEnded{}
}

// mark says which frames answer the sync.
func (s *eventStream) mark(got *frame) *frame {
	s.asking.Lock()
	defer s.asking.Unlock()
	isOfRoom := got.kind == "error" && strings.HasPrefix(got.fields.text("field"), "rooms.")
	if s.requestID == "" || !isOfRoom && got.kind != "sync.complete" {
		return got
	}
	fields := fieldsOf(got.data)
	fields["request_id"] = s.requestID
	if got.kind == "sync.complete" {
		s.requestID = ""
	}
	return makeFrame(fields)
}

func (s *eventStream) beginAt(fields map[string]any) {
	rooms := fields["rooms"].(map[string]int64)
	epoch, hasEpoch := fields["epoch"]
	s.asking.Lock()
	s.requestID, s.rooms = fields["request_id"].(string), maps.Clone(rooms)
	s.asking.Unlock()
	if len(rooms) == 0 && (!hasEpoch || epoch == s.ready.fields.text("epoch")) {
		close(s.hasBegun) // it began at the last acks, where this connection stopped
		return
	}
	s.run(s.ctx, func(context.Context) error {
		defer close(s.hasBegun)
		return s.readAnew(fields, true)
	})
}

func (s *eventStream) followRoom(_ context.Context, roomID string, lastSeq int64) error {
	s.asking.Lock()
	s.rooms[roomID] = lastSeq
	rooms := maps.Clone(s.rooms)
	s.asking.Unlock()
	select {
	case <-s.hasBegun:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	return s.readAnew(map[string]any{"rooms": rooms}, true)
}

// cutCursors is as many rooms as fit into an address: events of the others come twice, or show as a gap, and either
// heals.
func cutCursors(fields map[string]any) map[string]any {
	cut := map[string]any{"type": "sync"}
	if epoch, hasEpoch := fields["epoch"]; hasEpoch {
		cut["epoch"] = epoch
	}
	size, rooms := 200, map[string]int64{}
	for roomID, seq := range fields["rooms"].(map[string]int64) {
		size += len(roomID) + 22
		if size > maxCursorsBytes {
			break
		}
		rooms[roomID] = seq
	}
	cut["rooms"] = rooms
	return cut
}
