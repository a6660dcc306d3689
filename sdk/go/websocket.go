package chatapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// webSocket is the socket that a connection prefers.
type webSocket struct {
	socketState
	conn    *websocket.Conn
	writing sync.Mutex
	code    atomic.Int64
}

// openWebSocket is a socket that is `ready`, and gets nothing before it sends `sync`.
func openWebSocket(ctx context.Context, r *requester, keys *keyring) (socket, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	headers, err := keys.headers(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, r, headers)
	if err != nil {
		return nil, err
	}
	s := &webSocket{conn: conn}
	conn.SetReadLimit(maxFrameBytes)
	conn.SetPingHandler(func(text string) error {
		s.hear()
		err := conn.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(writeTimeout))
		var network net.Error
		if errors.Is(err, websocket.ErrCloseSent) || errors.As(err, &network) {
			return nil
		}
		return err
	})
	conn.SetPongHandler(func(string) error { s.hear(); return nil })
	if err := receiveReady(ctx, s); err != nil {
		s.abort()
		return nil, err
	}
	return s, nil
}

// dial makes the handshake. The library looks at the context only while it connects: the rest is cut off with the
// network connection.
func dial(ctx context.Context, r *requester, headers http.Header) (*websocket.Conn, error) {
	dialer := websocket.Dialer{Subprotocols: []string{"chatapi.v1"}}
	connect := (&net.Dialer{}).DialContext
	if transport, ok := r.client.Transport.(*http.Transport); ok {
		dialer.Proxy = transport.Proxy
		dialer.TLSClientConfig = transport.TLSClientConfig
		if transport.DialContext != nil {
			connect = transport.DialContext
		}
	}
	var release func() bool
	dialer.NetDialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err == nil {
			release = context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, err
	}
	conn, response, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(r.base(), "http")+"/v1/ws?sync=none", headers)
	if release != nil && !release() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err == nil {
		return conn, nil
	}
	if response != nil {
		return nil, judgeHandshake(response)
	}
	return nil, &NoAnswerError{"the handshake", err}
}

// judgeHandshake: of the answer the library has kept the first 1,024 bytes, more than a refusal of the server has.
func judgeHandshake(response *http.Response) error {
	body, _ := io.ReadAll(response.Body)
	got := answer{"the handshake", response.StatusCode, response.Header, body}
	if _, err := got.data(nil); err != nil {
		return err
	}
	return got.foreign("HTTP %d instead of a WebSocket", response.StatusCode)
}

func (s *webSocket) receive() (*frame, error) {
	kind, data, err := s.conn.ReadMessage()
	if err != nil {
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			s.code.Store(int64(closed.Code))
		}
		return nil, &socketEnded{}
	}
	s.hear()
	if kind != websocket.TextMessage {
		return nil, &socketEnded{err: &NotChatAPIError{Call: "frame", Reason: "binary"}}
	}
	got, err := parseFrame(data)
	if err != nil {
		return nil, &socketEnded{err: err}
	}
	return got, nil
}

func (s *webSocket) send(frames ...map[string]any) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for _, fields := range frames {
		data, err := encode(fields)
		if err != nil {
			continue // request has looked
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if s.conn.WriteMessage(websocket.TextMessage, data) != nil {
			return // the reader sees the end, too
		}
	}
}

func (s *webSocket) close() {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(closeTimeout))
}

func (s *webSocket) abort()                  { s.conn.Close() }
func (s *webSocket) wait()                   {}
func (s *webSocket) closeCode() int          { return int(s.code.Load()) }
func (s *webSocket) ackDelay() time.Duration { return 100 * time.Millisecond }
