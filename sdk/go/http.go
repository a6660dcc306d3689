package chatapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxHops        = 5 // from server to server: two may name each other
	defaultRetries = 4
	defaultTimeout = 30 * time.Second // of one try
	maxRetryAfter  = time.Minute      // a longer one is the application's decision, which gets the error
	maxAnswerBytes = 64 << 20
)

// Bounds of the pauses between tries; tests cut them short.
var (
	retryBase  = 250 * time.Millisecond
	retryLimit = 10 * time.Second
)

// Options of a [Client] or [Admin]; nil stands for the defaults.
type Options struct {
	// HTTPClient makes the calls. Its Jar, Timeout and CheckRedirect are not used: the SDK follows no redirects, since
	// the credential is for one server only. For WebSockets the Proxy, TLSClientConfig and DialContext of its transport
	// are used, if that is an *http.Transport.
	HTTPClient *http.Client
	// Timeout of one try of a call (30 s).
	Timeout time.Duration
	// Retries is how often a call is tried again (4); below 0, never.
	Retries int
}

// requester calls one server, and may be shared.
type requester struct {
	staysPut bool // whether it follows no tenant to another server
	mu       sync.Mutex
	address  string // of the server, without a slash at its end
	client   *http.Client
	timeout  time.Duration
	retries  int
	owned    *http.Transport // nil if the application has given its own client
}

func newRequester(address string, options *Options) (*requester, error) {
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		return nil, errors.New("chatapi: the address must start with http:// or https://")
	}
	if options == nil {
		options = &Options{}
	}
	r := &requester{address: strings.TrimRight(address, "/"), timeout: options.Timeout, retries: options.Retries}
	if r.timeout <= 0 {
		r.timeout = defaultTimeout
	}
	if r.retries == 0 {
		r.retries = defaultRetries
	}
	var client http.Client
	if options.HTTPClient != nil {
		client = *options.HTTPClient
		client.Jar, client.Timeout = nil, 0
	} else {
		r.owned = http.DefaultTransport.(*http.Transport).Clone()
		r.owned.MaxIdleConnsPerHost = 32
		client.Transport = r.owned
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r.client = &client
	return r, nil
}

// call is what to ask for.
type call struct {
	method string
	path   string // after the address, escaped
	query  url.Values
	body   any
	repeat bool              // whether doing it twice is the same as doing it once
	wait   time.Duration     // how much longer than others it may take
	header map[string]string // beside those of the credential
}

func (c call) name() string { return c.method + " " + c.path }

// do returns the answer's data. It tries again, with growing pauses, when there was no answer of the server's or a 502
// to 504 of its own, if the call may be repeated; always after a 429 of its own, slow mode aside, once Retry-After has
// passed.
func (r *requester) do(ctx context.Context, keys *keyring, c call, wanted shape) (json.RawMessage, error) {
	return repeat(ctx, r, keys, c, func(a answer) (json.RawMessage, error) { return a.data(wanted) })
}

func (r *requester) read(ctx context.Context, keys *keyring, path string) (string, error) {
	return repeat(ctx, r, keys, call{method: http.MethodGet, path: path, repeat: true}, answer.text)
}

func repeat[T any](ctx context.Context, r *requester, keys *keyring, c call, parse func(answer) (T, error)) (T, error) {
	var none T
	isRenewed, wasLost, hops := false, false, 0
	for attempt := 0; ; attempt++ {
		asked := r.base()
		got, err := r.try(ctx, keys, c)
		if err == nil {
			var result T
			if result, err = parse(got); err == nil {
				return result, nil
			}
		}
		refusal, isRefusal := asRefusal(err)
		var delay time.Duration
		var foreign *NotChatAPIError
		var noToken *TokenError
		switch {
		case ctx.Err() != nil:
			return none, context.Cause(ctx)
		case isRefusal && hops < maxHops && r.follow(refusal, asked): // nothing was done, so anything may be repeated
			hops++
			attempt--
			continue
		case isRefusal && refusal.Status == 404 && c.method == http.MethodDelete && wasLost:
			return none, nil // an earlier try did it
		case isRefusal && refusal.Status == 401 && !isRenewed && keys.renew():
			isRenewed = true
			continue
		case isRefusal:
			may := refusal.mayPass() && (refusal.Status == 429 || c.repeat && refusal.Status >= 502)
			if !may || attempt >= r.retries || refusal.RetryAfter > maxRetryAfter {
				return none, err
			}
			delay = refusal.RetryAfter
		case errors.As(err, &noToken) || !c.repeat || attempt >= r.retries:
			return none, err
		case errors.As(err, &foreign):
			wasLost, delay = true, min(foreign.RetryAfter, retryLimit)
		default:
			wasLost = true
		}
		if err := pause(ctx, max(delay, fullJitter(attempt, retryBase, retryLimit))); err != nil {
			return none, err
		}
	}
}

func (r *requester) try(ctx context.Context, keys *keyring, c call) (answer, error) {
	headers, err := keys.headers(ctx)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout+c.wait)
	defer cancel()
	var body io.Reader
	if c.method == http.MethodPost || c.method == http.MethodPut || c.method == http.MethodPatch {
		headers.Set("Content-Type", "application/json")
		data, err := encode(c.body)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, r.locate(c.path, c.query), body)
	if err != nil {
		return answer{}, err
	}
	for name, value := range c.header {
		headers.Set(name, value)
	}
	request.Header = headers
	response, err := r.client.Do(request)
	if err != nil {
		return answer{}, &NoAnswerError{c.name(), err}
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return answer{}, &NoAnswerError{c.name(), err}
	}
	return answer{c.name(), response.StatusCode, response.Header, data}, nil
}

func (r *requester) locate(path string, query url.Values) string {
	if len(query) == 0 {
		return r.base() + path
	}
	return r.base() + path + "?" + query.Encode()
}

func (r *requester) base() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// follow tells whether another server than `asked` has the tenant now, as the refusal says, and is called from now on.
func (r *requester) follow(refusal *APIError, asked string) bool {
	if refusal.Status != http.StatusMisdirectedRequest || refusal.Code != CodeTenantMoved {
		return false
	}
	if r.base() != asked {
		return true // another call was told before
	}
	address, _ := refusal.Details["url"].(string)
	return r.moveTo(address)
}

// moveTo lets this server be called from now on, credentials included. False, and nothing changes, if it is not the URL
// of a server, or http after https.
func (r *requester) moveTo(address string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.staysPut || !isServer(address) || isHTTPS(r.address) && !isHTTPS(address) {
		return false
	}
	r.address = strings.TrimRight(address, "/")
	return true
}

func isHTTPS(address string) bool { return strings.HasPrefix(address, "https://") }

// isServer tells whether it is the whole address of a server, with or without a path: a host, and nothing that hides
// another one.
func isServer(address string) bool {
	if !isHTTPS(address) && !strings.HasPrefix(address, "http://") || strings.ContainsAny(address, " \\?#") {
		return false
	}
	parts, err := url.Parse(address) // refuses control characters
	if err != nil || parts.Hostname() == "" || parts.User != nil {
		return false
	}
	port := parts.Port()
	number, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && number > 0
}

// encode makes JSON as short as the server's own: `<` stays `<`.
func encode(value any) ([]byte, error) {
	if value == nil {
		return []byte("{}"), nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buffer.Bytes(), "\n"), nil
}

// Query is what follows the question mark of an address.
type Query = url.Values

// caller is the common part of Client and Admin: the calls that need no credential, and those to any route.
type caller struct {
	http *requester
	keys *keyring
}

// URL is the server's address, without a slash at its end.
func (c *caller) URL() string { return c.http.base() }

// Close closes idle sockets. Clients of As share them, and need not be closed.
func (c *caller) Close() {
	if c.http.owned != nil {
		c.http.owned.CloseIdleConnections()
	}
}

// Call calls any route, such as Call(ctx, "GET", "/rooms", chatapi.Query{"limit": {"5"}}, nil, &page), and decodes the
// answer's data into result, unless that is nil. The path begins after /v1, escaped. Anything but a POST is tried again
// after a lost answer.
func (c *caller) Call(ctx context.Context, method, path string, query Query, body, result any) error {
	return c.ask(ctx, call{method: method, path: path, query: query, body: body}, nil, result)
}

// ask calls a route of the API and decodes the data. Everything but a POST may be repeated, POSTs where they say so.
func (c *caller) ask(ctx context.Context, asked call, wanted shape, result any) error {
	asked.path = "/v1" + asked.path
	asked.repeat = asked.repeat || asked.method != http.MethodPost
	data, err := c.http.do(ctx, c.keys, asked, wanted)
	if err != nil || result == nil || data == nil {
		return err
	}
	if err := json.Unmarshal(data, result); err != nil {
		return &NotChatAPIError{Call: asked.name(), HTTPStatus: 200, Reason: "data of another form: " + err.Error()}
	}
	return nil
}

// get asks for a record, or a page of a list.
func get[T any](ctx context.Context, c *caller, asked call, wanted shape) (*T, error) {
	result := new(T)
	if err := c.ask(ctx, asked, wanted, result); err != nil {
		return nil, err
	}
	return result, nil
}

// ReadText reads what is served without an envelope, by its whole path, such as "/sdk/chatapi.js".
func (c *caller) ReadText(ctx context.Context, path string) (string, error) {
	return c.http.read(ctx, c.keys, path)
}
