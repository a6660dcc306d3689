package chatapi_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"

	chatapi "chatapi.invalid/chatapi-go"
)

// example is alice of a new tenant, and her room with bob.
func example(ctx context.Context) (alice *chatapi.Client, roomID string) {
	admin, err := chatapi.NewAdmin(setting("URL"), setting("MASTER_KEY"), nil)
	check(err)
	defer admin.Close()
	tenant, err := admin.CreateTenant(ctx, "example", nil)
	check(err)
	alice, err = chatapi.New(setting("URL"), chatapi.APIKey(tenant.APIKey, "alice"), nil)
	check(err)
	room, err := alice.CreateRoom(ctx, chatapi.RoomDraft{Type: chatapi.Group, Members: []string{"bob"}})
	check(err)
	return alice, room.RoomID
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// Ten lines of history, and a call that is refused.
func ExampleClient() {
	ctx := context.Background()
	alice, roomID := example(ctx)
	defer alice.Close()

	for _, text := range []string{"Hello", "Is anybody there?"} {
		_, err := alice.SendMessage(ctx, roomID, chatapi.Text(text))
		check(err)
	}
	page, err := alice.ListMessages(ctx, roomID, chatapi.HistoryQuery{Limit: 10})
	check(err)
	for _, message := range page.Messages {
		fmt.Println(message.Seq, message.SenderID, message.Content)
	}

	_, err = alice.GetRoom(ctx, "room_unknown")
	var refusal *chatapi.APIError
	if errors.As(err, &refusal) {
		fmt.Println(refusal.Code, refusal.Status)
	}
	// Output:
	// 1 alice Hello
	// 2 alice Is anybody there?
	// NOT_FOUND 404
}

// A bot that answers every message of others, and keeps its place.
func ExampleConnection_Events() {
	ctx := context.Background()
	alice, roomID := example(ctx)
	defer alice.Close()
	_, err := alice.SendMessage(ctx, roomID, chatapi.Text("Hello"))
	check(err)

	bot, err := alice.As("bob").Connect(ctx, chatapi.ConnectOptions{})
	check(err)
	defer bot.Close()
	for event, err := range bot.Events(ctx) {
		check(err)
		message, ok := event.(*chatapi.MessageEvent)
		if !ok {
			continue
		}
		fmt.Println(message.Message.SenderID, message.Message.Content)
		if message.Message.SenderID == "bob" {
			break
		}
		_, err := bot.Send(ctx, roomID, chatapi.Draft{
			Content: "You said: " + message.Message.Content, ReplyTo: message.Message.MessageID,
		})
		check(err)
	}
	fmt.Println(bot.Cursors().Rooms[roomID])
	// Output:
	// alice Hello
	// bob You said: Hello
	// 1
}

// A message that is written word by word, as language models do, and a reader who sees it grow.
func ExampleConnection_Stream() {
	ctx := context.Background()
	alice, roomID := example(ctx)
	defer alice.Close()
	writer, err := alice.Connect(ctx, chatapi.ConnectOptions{})
	check(err)
	defer writer.Close()
	reader, err := alice.As("bob").Connect(ctx, chatapi.ConnectOptions{})
	check(err)
	defer reader.Close()

	words := func(ctx context.Context) iter.Seq2[string, error] { // ctx ends when no more text is wanted
		return func(yield func(string, error) bool) {
			for _, word := range []string{"Once", " upon", " a time"} {
				if ctx.Err() != nil || !yield(word, nil) {
					return
				}
			}
		}
	}
	written := make(chan error, 1)
	go func() {
		_, err := writer.Stream(ctx, roomID, chatapi.Draft{}, words)
		written <- err
	}()

	for event, err := range reader.Events(ctx) {
		check(err)
		message, ok := event.(*chatapi.MessageEvent)
		if !ok || message.Message.Stream == nil {
			continue
		}
		var last string
		for text, err := range reader.Follow(message.Message).Text(ctx) {
			check(err)
			last = text // show it
		}
		fmt.Println(last)
		break
	}
	check(<-written) // its end may be confirmed after the reader has seen it
	// Output: Once upon a time
}
