package chatapi

import "context"

func (c *carrier) returnToWebSocket(context.Context) error { return nil }

// Transport carries a connection.
type Transport string

const (
	WebSocket Transport = "websocket"
)
