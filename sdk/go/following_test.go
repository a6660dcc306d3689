package chatapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// mover is a server played by hand: it names another one, or serves one room.
type mover struct {
	*httptest.Server
	mu       sync.Mutex
	to       string // the server that it names
	requests []string
	sockets  chan *websocket.Conn // of those that it accepts; nil if it refuses them like everything else
}

func newMover(t *testing.T, takesSockets bool) *mover {
	m := &mover{}
	if takesSockets {
		m.sockets = make(chan *websocket.Conn, 10)
	}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = append(m.requests, r.Method+" "+r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/ws") && m.sockets != nil {
		upgrader := websocket.Upgrader{Subprotocols: []string{"chatapi.v1"}}
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			conn.WriteJSON(map[string]any{"type": "ready", "user_id": "alice", "epoch": "e1", "heartbeat_seconds": 30,
				"rooms": []any{map[string]any{"room_id": "room_a", "type": "group", "last_seq": 0, "last_ack": 0, "last_read": 0}}})
			m.sockets <- conn
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if m.to != "" {
		w.WriteHeader(http.StatusMisdirectedRequest)
		fmt.Fprintf(w, `{"success":false,"data":null,"error":{"code":"TENANT_MOVED","message":"moved","details":{"url":%q}}}`, m.to)
		return
	}
	fmt.Fprint(w, `{"success":true,"data":{"room_id":"room_a","rooms":[],"has_more":false},"error":null}`)
}

func (m *mover) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.requests...)
}

func newAlice(t *testing.T, address string) *Client {
	t.Helper()
	alice, err := New(address, APIKey("sk_1", "alice"), &Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alice.Close)
	return alice
}

func isMoved(err error) bool {
	var refusal *APIError
	return errors.As(err, &refusal) && refusal.Status == 421 && refusal.Code == "TENANT_MOVED"
}

func TestCallIsRepeatedWhereTheTenantIs(t *testing.T) {
	one, two := newMover(t, false), newMover(t, false)
	one.to = two.URL + "/base/"
	alice := newAlice(t, one.URL)
	for range 2 {
		if err := alice.Call(context.Background(), "POST", "/rooms", nil, map[string]any{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(one.asked(), two.asked()); got != "[POST /v1/rooms] [POST /base/v1/rooms POST /base/v1/rooms]" {
		t.Error(got)
	}
	if alice.URL() != two.URL+"/base" {
		t.Error(alice.URL())
	}
}

func TestServersThatNameEachOtherAreGivenUp(t *testing.T) {
	one, two := newMover(t, false), newMover(t, false)
	one.to, two.to = two.URL, one.URL
	alice := newAlice(t, one.URL)
	err := alice.Call(context.Background(), "GET", "/rooms", nil, nil, nil)
	if asked := len(one.asked()) + len(two.asked()); !isMoved(err) || asked != maxHops+1 {
		t.Error(err, asked)
	}
	if _, err := alice.Connect(context.Background(), ConnectOptions{}); !isMoved(err) {
		t.Error(err)
	}
}

func TestOperatorStaysAtTheServerThatWasNamed(t *testing.T) {
	one, two := newMover(t, false), newMover(t, false)
	one.to = two.URL
	admin, err := NewAdmin(one.URL, "master", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.Call(context.Background(), "GET", "/admin/tenants", nil, nil, nil); !isMoved(err) || len(two.asked()) > 0 {
		t.Error(err, two.asked())
	}
}

func TestCredentialsGoFromHTTPSToHTTPSOnly(t *testing.T) {
	r, err := newRequester("https://one.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"http://two.example", "ftp://two.example", ""} {
		if r.moveTo(address) || r.base() != "https://one.example" {
			t.Error(address, r.base())
		}
	}
	if !r.moveTo("https://two.example/base/") || r.locate("/v1/rooms", nil) != "https://two.example/base/v1/rooms" {
		t.Error(r.base())
	}
}

func TestConnectionGoesOnWhereTheTenantIs(t *testing.T) {
	old, one, two := newMover(t, false), newMover(t, true), newMover(t, true)
	old.to = one.URL // 421 in place of the upgrade
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	alice := newAlice(t, old.URL)
	opened := make(chan *Connection, 1)
	go func() {
		connection, err := alice.Connect(ctx, ConnectOptions{MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond})
		if err != nil {
			t.Error(err)
		}
		opened <- connection
	}()
	at := []*mover{one, two, one} // to, and back
	for count, server := range at {
		var conn *websocket.Conn
		select {
		case conn = <-server.sockets:
		case <-ctx.Done():
			t.Fatal("no connection at server ", count)
		}
		if cursor := readSync(t, conn); cursor != int64(count) {
			t.Error("the cursor is ", cursor, " and not ", count)
		}
		if count == 0 {
			connection := <-opened
			defer connection.Close()
			go func() {
				for range connection.Events(ctx) {
				}
			}()
		}
		conn.WriteJSON(map[string]any{"type": "message", "room_id": "room_a", "seq": count + 1, "message_id": fmt.Sprint("msg_", count), "sender_id": "bob", "content": "x"})
		if count+1 < len(at) {
			conn.WriteJSON(map[string]any{"type": "server.shutdown", "reconnect_after_ms": 1, "url": at[count+1].URL})
		}
		conn.Close()
	}
}

// readSync is the cursor of the room with which the connection begins, which is answered.
func readSync(t *testing.T, conn *websocket.Conn) int64 {
	t.Helper()
	for {
		var frame struct {
			Type      string           `json:"type"`
			RequestID string           `json:"request_id"`
			Rooms     map[string]int64 `json:"rooms"`
		}
		_, data, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(data, &frame)
		if frame.Type == "sync" {
			conn.WriteJSON(map[string]any{"type": "sync.complete", "rooms": map[string]int64{}, "request_id": frame.RequestID})
			return frame.Rooms["room_a"]
		}
	}
}
