package chatapi

import "context"

type growth struct{}

func newGrowth(*Connection) *growth { return &growth{} }
func (g *growth) loseRoom(string)   {}
func (g *growth) receive(*frame)    {}
func (g *growth) end()              {}

type streamWriter struct{}

func (w *streamWriter) cancel() {}
func (w *streamWriter) cutOff() {}

func (c *carrier) returnToWebSocket(context.Context) error { return nil }

// Transport carries a connection.
type Transport string

const (
	WebSocket Transport = "websocket"
)
