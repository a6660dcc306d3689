// Package chatapi is the Go SDK of ChatAPI: a method for every REST route, and a connection that reconnects by itself
// and hands over each event of a room once and in order.
//
// A [Client] is a tenant's backend that acts as a user ([APIKey]), or one user ([Token], [TokenSource]). An [Admin] is
// the operator. [Client.Connect] opens a [Connection]; its events come in a loop:
//
//	for event, err := range connection.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		if message, ok := event.(*chatapi.MessageEvent); ok {
//			fmt.Println(message.Message.SenderID, message.Message.Content)
//		}
//	}
//
// Events come through an iterator and not through a channel, because an iterator knows when the loop has finished with
// an event: it is asked for the next one. Only then is the event acknowledged, and only then do [Connection.Cursors]
// include it. A receiver on a channel gives no such sign.
//
// Every call takes a context and returns once that has ended. Refusals of the server are *[APIError]; errors for which
// errors.Is(err, [ErrNoAnswer]) holds say that there was no answer of the server.
package chatapi

// Version of this SDK: that of the server that it knows in full.
const Version = "1.0.0"
