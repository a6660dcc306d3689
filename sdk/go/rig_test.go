package chatapi_test

// What the cases share: a tenant of their own, clients of its users, and events to wait for.
//
// Environment: CHATAPI_TEST_URL and CHATAPI_TEST_MASTER_KEY; CHATAPI_TEST_CONTROL, an address that takes POST /kill,
// /stop and /start; CHATAPI_TEST_PROXY, a proxy before the server, which POST /proxy of the former tells what to answer
// itself; CHATAPI_TEST_NEWER, another proxy, which makes of it a server of a later 1.x; CHATAPI_TEST_OTHER, another
// server, to which POST /move of the control moves a tenant, and back; and CHATAPI_TEST_TRANSPORT, which is to carry the
// connections of the cases. tests/test_sdk_go.py sets all of them.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

const patience = 60 * time.Second // restarts of the server and dozens of tries included, on a machine that does much else

func setting(name string) string {
	value := os.Getenv("CHATAPI_TEST_" + name)
	if value == "" {
		panic("CHATAPI_TEST_" + name + " is not set: run these tests with `python -m pytest -m slow tests/test_sdk_go.py`")
	}
	return value
}

// rig is clients and connections of one tenant, all closed at the end of the test.
type rig struct {
	*testing.T
	ctx     context.Context
	url     string
	tenant  string
	apiKey  string
	backend *chatapi.Client
}

func newRig(t *testing.T) *rig { return newRigAt(t, setting("URL"), nil) }

func newRigAt(t *testing.T, url string, config map[string]any) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(func() { checkGoroutines(t) })
	t.Cleanup(cancel)
	admin, err := chatapi.NewAdmin(setting("URL"), setting("MASTER_KEY"), nil)
	must(t, err)
	t.Cleanup(admin.Close)
	if config == nil {
		config = map[string]any{"rate_limit": 100_000, "user_rate_limit": 100_000}
	}
	tenant, err := admin.CreateTenant(ctx, "sdk", config)
	must(t, err)
	r := &rig{T: t, ctx: ctx, url: url, tenant: tenant.TenantID, apiKey: tenant.APIKey}
	r.backend, err = chatapi.New(url, chatapi.APIKey(tenant.APIKey, "backend"), nil)
	must(t, err)
	t.Cleanup(r.backend.Close)
	return r
}

// checkGoroutines waits for a moment until the SDK has none left.
func checkGoroutines(t *testing.T) {
	var stacks string
	for range 100 {
		buffer := make([]byte, 1<<20)
		stacks = string(buffer[:runtime.Stack(buffer, true)])
		left := 0
		for _, stack := range strings.Split(stacks, "\n\n") {
			if strings.Contains(stack, "chatapi-go.(") || strings.Contains(stack, "gorilla/websocket") {
				left++
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("goroutines of the SDK are left:\n%s", stacks)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) client(userID string) *chatapi.Client { return r.backend.As(userID) }

// group is a room; the first member creates it.
func (r *rig) group(members ...string) string {
	r.Helper()
	room, err := r.client(members[0]).CreateRoom(r.ctx, chatapi.RoomDraft{Type: chatapi.Group, Members: members})
	must(r.T, err)
	return room.RoomID
}

func (r *rig) send(userID, roomID, content string) *chatapi.Message {
	r.Helper()
	message, err := r.client(userID).SendMessage(r.ctx, roomID, chatapi.Text(content))
	must(r.T, err)
	return message
}

func (r *rig) connect(userID string) *inbox {
	r.Helper()
	return r.connectWith(userID, chatapi.ConnectOptions{}, nil)
}

func (r *rig) connectWith(userID string, options chatapi.ConnectOptions, handle func(chatapi.Event)) *inbox {
	r.Helper()
	return r.attach(r.client(userID), options, handle)
}

// attach returns when the connection is up to date for the first time.
func (r *rig) attach(client *chatapi.Client, options chatapi.ConnectOptions, handle func(chatapi.Event)) *inbox {
	r.Helper()
	if options.MinDelay == 0 {
		options.MinDelay, options.MaxDelay = 50*time.Millisecond, 500*time.Millisecond
	}
	if transport := os.Getenv("CHATAPI_TEST_TRANSPORT"); transport != "" && options.Transports == nil {
		options.Transports = []chatapi.Transport{chatapi.Transport(transport)}
	}
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	conn, err := client.Connect(ctx, options)
	must(r.T, err)
	if options.Transports != nil {
		equal(r.T, conn.Transport(), options.Transports[0])
	}
	box := &inbox{r: r, conn: conn, handle: handle, changed: make(chan struct{})}
	loop := make(chan struct{})
	go func() { defer close(loop); box.run(r.ctx) }()
	r.Cleanup(func() { conn.Close(); <-loop })
	box.until(1, isType("sync.complete"))
	return box
}

// inbox gathers what a connection hands over, in one loop over its events.
type inbox struct {
	r       *rig
	conn    *chatapi.Connection
	handle  func(chatapi.Event)
	mu      sync.Mutex
	events  []chatapi.Event
	err     error
	changed chan struct{}
}

func (b *inbox) run(ctx context.Context) {
	for event, err := range b.conn.Events(ctx) {
		if err == nil && b.handle != nil {
			b.handle(event)
		}
		b.mu.Lock()
		if err != nil {
			b.err = err
		} else {
			b.events = append(b.events, event)
		}
		close(b.changed)
		b.changed = make(chan struct{})
		b.mu.Unlock()
	}
}

func (b *inbox) all() []chatapi.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]chatapi.Event(nil), b.events...)
}

func (b *inbox) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = nil
}

func (b *inbox) find(test func(chatapi.Event) bool) []chatapi.Event {
	var found []chatapi.Event
	for _, event := range b.all() {
		if test(event) {
			found = append(found, event)
		}
	}
	return found
}

// until is the events that pass the test, past or future, as soon as there are so many.
func (b *inbox) until(count int, test func(chatapi.Event) bool) []chatapi.Event {
	b.r.Helper()
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		found := b.find(test)
		if len(found) >= count {
			return found
		}
		select {
		case <-changed:
		case <-deadline:
			var last []string
			all := b.all()
			for _, event := range all[max(0, len(all)-8):] {
				last = append(last, string(event.Raw()))
			}
			b.r.Fatalf("%d of %d events came (state %s, %v, %v); the last ones:\n%s", len(found), count, b.conn.State(),
				b.conn.Err(), b.err, strings.Join(last, "\n"))
		}
	}
}

func (b *inbox) messages(roomID string, count int) []*chatapi.Message {
	b.r.Helper()
	var messages []*chatapi.Message
	for _, event := range b.until(count, isMessageOf(roomID)) {
		messages = append(messages, &event.(*chatapi.MessageEvent).Message)
	}
	return messages
}

func isType(kind string) func(chatapi.Event) bool {
	return func(event chatapi.Event) bool { return event.Type() == kind }
}

func isMessageOf(roomID string) func(chatapi.Event) bool {
	return func(event chatapi.Event) bool {
		message, ok := event.(*chatapi.MessageEvent)
		return ok && message.Message.RoomID == roomID
	}
}

func isLogged(event chatapi.Event) bool {
	_, ok := event.Place()
	return ok
}

// stored is everything in a room, over REST.
func (r *rig) stored(roomID string) []chatapi.Message {
	r.Helper()
	var all []chatapi.Message
	for seq := int64(0); ; {
		page, err := r.backendOf(roomID).ListMessages(r.ctx, roomID, chatapi.HistoryQuery{AfterSeq: chatapi.Set(seq), Limit: 100})
		must(r.T, err)
		all = append(all, page.Messages...)
		if !page.HasMore {
			return all
		}
		seq = all[len(all)-1].Seq
	}
}

func (r *rig) backendOf(string) *chatapi.Client { return r.client("alice") }

func (r *rig) acknowledged(roomID, userID string) int64 {
	r.Helper()
	page, err := r.client("alice").ListReceipts(r.ctx, roomID, chatapi.Page{})
	must(r.T, err)
	for _, receipt := range page.Receipts {
		if receipt.UserID == userID {
			return receipt.LastAck
		}
	}
	r.Fatalf("%s has no receipt", userID)
	return 0
}

func (r *rig) untilAcknowledged(roomID, userID string, seq int64) {
	r.Helper()
	r.eventually(func() bool { return r.acknowledged(roomID, userID) == seq })
}

// eventually: what no event tells is asked for again and again.
func (r *rig) eventually(test func() bool) {
	r.Helper()
	for deadline := time.Now().Add(patience); !test(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatal("it did not come true in time")
		}
	}
}

// control kills, stops or starts the server.
func control(t testing.TB, what string) {
	t.Helper()
	post(t, setting("CONTROL")+"/"+what, nil)
}

func restart(t testing.TB) {
	control(t, "kill")
	control(t, "start")
}

// move moves the tenant to the other server, or back.
func (r *rig) move() {
	r.Helper()
	response, err := http.Post(setting("CONTROL")+"/move", "text/plain", strings.NewReader(r.tenant))
	must(r.T, err)
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); response.StatusCode != 200 {
		r.Fatalf("the move: %s %v", text, err)
	}
}

// intercept tells the proxy to answer the next requests of this kind itself, with each of these answers once.
func intercept(t testing.TB, method, path string, answers ...string) {
	t.Helper()
	post(t, setting("CONTROL")+"/proxy", map[string]any{"method": method, "path": path, "answers": answers})
}

// answersLeft is how many of its own answers the proxy has not given yet.
func answersLeft(t testing.TB) int {
	t.Helper()
	left, err := strconv.Atoi(post(t, setting("CONTROL")+"/proxy", nil))
	must(t, err)
	return left
}

func post(t testing.TB, url string, body any) string {
	t.Helper()
	var data []byte
	if body != nil {
		data, _ = json.Marshal(body)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(url, "application/json", bytes.NewReader(data))
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != 200 {
		t.Fatalf("%s: %s", url, text)
	}
	return string(text)
}

// refused asserts that the server refused a call so, and returns the refusal.
func refused(t testing.TB, err error, code chatapi.Code, status int) *chatapi.APIError {
	t.Helper()
	var refusal *chatapi.APIError
	if !errors.As(err, &refusal) || refusal.Code != code || refusal.Status != status {
		t.Fatalf("%v (%T) is not %s %d", err, err, code, status)
	}
	return refusal
}

// numbered is "prefix 1" to "prefix n".
func numbered(prefix string, count int) []string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s %d", prefix, i+1)
	}
	return texts
}

func contents[T any](messages []T) []string {
	var texts []string
	for _, message := range messages {
		switch message := any(message).(type) {
		case *chatapi.Message:
			texts = append(texts, message.Content)
		case chatapi.Message:
			texts = append(texts, message.Content)
		}
	}
	return texts
}

func seqs(messages []*chatapi.Message) []int64 {
	var found []int64
	for _, message := range messages {
		found = append(found, message.Seq)
	}
	return found
}

func upTo(last int64) []int64 {
	var numbers []int64
	for number := int64(1); number <= last; number++ {
		numbers = append(numbers, number)
	}
	return numbers
}

func equal(t testing.TB, got, wanted any) {
	t.Helper()
	one, _ := json.Marshal(got)
	other, _ := json.Marshal(wanted)
	if !bytes.Equal(one, other) {
		t.Fatalf("got %s, wanted %s", one, other)
	}
}

func get(t testing.TB, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return string(text)
}
