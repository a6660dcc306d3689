package chatapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Transport carries a connection.
type Transport string

const (
	WebSocket    Transport = "websocket"
	ServerEvents Transport = "sse"  // Server-Sent Events, and REST for what is sent
	LongPoll     Transport = "poll" // and REST for what is sent
)

var allTransports = []Transport{WebSocket, ServerEvents, LongPoll}

const (
	failedUpgrades = 3 // in a row, REST answering after each; then the next transport is tried
	failedStreams  = 1
	restTimeout    = 5 * time.Second
)

// carrier chooses what carries the connection: a WebSocket, and where none passes Server-Sent Events, then long polls.
type carrier struct {
	client     *Client
	transports []Transport
	longest    time.Duration // of the waits before a reconnect

	mu     sync.Mutex
	at     int
	failed int
}

func newCarrier(client *Client, options ConnectOptions) (*carrier, error) {
	transports := options.Transports
	if len(transports) == 0 {
		transports = allTransports
	}
	for _, transport := range transports {
		if !slices.Contains(allTransports, transport) {
			return nil, errors.New("chatapi: there is no transport " + string(transport))
		}
	}
	return &carrier{client: client, transports: transports, longest: options.MaxDelay}, nil
}

func (c *carrier) transport() Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transports[c.at]
}

func (c *carrier) set(at, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.failed = at%len(c.transports), failed
}

func (c *carrier) open(ctx context.Context) (socket, error) {
	s, err := c.openWhereServed(ctx)
	if err != nil {
		c.noteFailure(ctx, err)
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = 0
	return s, nil
}

func (c *carrier) openWhereServed(ctx context.Context) (socket, error) {
	for hops := 0; ; hops++ {
		asked := c.client.http.base()
		s, err := c.openWith(ctx, c.transport())
		refusal, isRefusal := asRefusal(err)
		if !isRefusal || hops == maxHops || c.transport() == LongPoll { // the calls of polls have followed by themselves
			return s, err
		}
		if !c.client.http.follow(refusal, asked) {
			return s, err
		}
	}
}

func (c *carrier) openWith(ctx context.Context, transport Transport) (socket, error) {
	switch transport {
	case ServerEvents:
		return openEventStream(ctx, c.client)
	case LongPoll:
		return openPoll(ctx, c.client)
	}
	return openWebSocket(ctx, c.client.http, c.client.keys)
}

func (c *carrier) noteFailure(ctx context.Context, err error) {
	refusal, isRefusal := asRefusal(err)
	var noToken *TokenError
	if len(c.transports) == 1 || ctx.Err() != nil || errors.As(err, &noToken) || isRefusal && !isPassing(refusal.Status) {
		return // the server refuses, or was not asked, whatever carries it
	}
	asked, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	if _, err := c.client.Livez(asked); err != nil { // the server is away, or restarts: this is not the transport's fault
		c.set(0, 0)
		return
	}
	most := failedStreams
	if c.transport() == WebSocket {
		most = failedUpgrades
	}
	if c.failed++; c.failed == most {
		c.set(c.at+1, 0)
	}
}

// returnToWebSocket looks after twice the longest delay of a reconnect, again and again. It ends the socket once a
// WebSocket comes up, so that the next one is that.
func (c *carrier) returnToWebSocket(ctx context.Context) error {
	if c.transport() == WebSocket || c.transports[0] != WebSocket {
		return nil
	}
	for {
		if pause(ctx, 2*c.longest) != nil {
			return nil
		}
		s, err := openWebSocket(ctx, c.client.http, c.client.keys)
		if err != nil {
			continue
		}
		s.close()
		s.abort()
		c.set(0, 0)
		return &socketEnded{atOnce: true}
	}
}

// Transport is what carries the connection now, or is tried next.
func (c *Connection) Transport() Transport { return c.carrier.transport() }
