package chatapi

import "context"

// carrier chooses what carries the connection.
type carrier struct {
	client *Client
}

func (c *carrier) open(ctx context.Context) (socket, error) {
	return openWebSocket(ctx, c.client.http, c.client.keys)
}
