package chatapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

// TestFaults runs the faults of tests/sdk_cases.json, from which the SDK recovers by itself. The server has /dev.
func TestFaults(t *testing.T) {
	for _, one := range shared.Faults.Cases {
		over := one.Over
		if over == nil {
			over = []string{"websocket", "sse", "poll"}
		}
		for _, transport := range over {
			t.Run(one.Name+"/"+transport, func(t *testing.T) { recovers(t, transport, one.Steps) })
		}
	}
}

// crew is alice, who sends in the order of the steps.
type crew struct {
	r       *rig
	conn    *chatapi.Connection
	room    string
	texts   []string
	streams int
	waits   []func() error
}

func (c *crew) take(kind string, value json.RawMessage) {
	c.r.Helper()
	count, _ := json.Number(value).Int64()
	switch kind {
	case "fault":
		setFaults(c.r.T, value)
	case "send":
		for range count {
			c.texts = append(c.texts, fmt.Sprintf("message %d", len(c.texts)+1))
			delivery, err := c.conn.Post(c.r.ctx, c.room, chatapi.Text(c.texts[len(c.texts)-1]))
			must(c.r.T, err)
			c.waits = append(c.waits, func() error { _, err := delivery.Wait(c.r.ctx); return err })
		}
	case "stream":
		c.stream(int(count))
	case "confirmed":
		c.confirmed()
	case "wait_ms":
		time.Sleep(time.Duration(count) * time.Millisecond)
	default:
		c.r.Fatalf("an unknown step: %s", kind)
	}
}

func (c *crew) stream(count int) {
	var pieces []string
	for number := range count {
		pieces = append(pieces, fmt.Sprintf("piece %d ", number))
	}
	c.texts, c.streams = append(c.texts, strings.Join(pieces, "")), c.streams+1
	source := func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, piece := range pieces {
				time.Sleep(10 * time.Millisecond) // as a model writes: not all in one append
				if !yield(piece, nil) {
					return
				}
			}
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.conn.Stream(c.r.ctx, c.room, chatapi.Draft{}, source)
		done <- err
	}()
	c.waits = append(c.waits, func() error { return <-done })
}

func (c *crew) confirmed() {
	c.r.Helper()
	for _, wait := range c.waits {
		must(c.r.T, wait())
	}
	c.waits = nil
}

func setFaults(t *testing.T, faults json.RawMessage) {
	t.Helper()
	request, err := http.NewRequest("POST", setting("URL")+"/dev/faults", bytes.NewReader(faults))
	must(t, err)
	request.Header.Set("X-Master-Key", setting("MASTER_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	must(t, err)
	response.Body.Close()
	equal(t, response.StatusCode, 200)
}

func recovers(t *testing.T, transport string, steps []map[string]json.RawMessage) {
	r := newRig(t)
	room := r.group("alice", "bob")
	options := chatapi.ConnectOptions{Transports: []chatapi.Transport{chatapi.Transport(transport)}}
	alice, bob := r.connectWith("alice", options, nil), r.connectWith("bob", options, nil)
	crew := &crew{r: r, conn: alice.conn, room: room}
	func() {
		defer setFaults(t, json.RawMessage("{}"))
		for _, step := range steps {
			for kind, value := range step {
				crew.take(kind, value)
			}
		}
	}()
	crew.confirmed()
	stored := r.stored(room)
	equal(t, contents(stored), crew.texts)
	var ids []string
	for _, message := range stored {
		ids = append(ids, message.MessageID)
	}
	for _, box := range []*inbox{alice, bob} {
		box.until(crew.streams, isType("message.finished"))
		box.messages(room, len(stored))
		r.eventually(func() bool { return box.conn.State() == chatapi.StateLive })
		var got []string
		for _, message := range box.messages(room, len(stored)) {
			got = append(got, message.MessageID)
		}
		equal(t, got, ids)
		equal(t, len(box.find(isType("message.finished"))), crew.streams)
	}
}
