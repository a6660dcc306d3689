package chatapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	tokenTimeout = 10 * time.Second // for a source; less than a handshake may take, so that its failure is told as its own
	expiryLeeway = 5 * time.Minute  // of a refused token: our clock may be behind the server's
)

var (
	tokenPattern  = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`) // the characters that a header and a subprotocol can hold
	headerPattern = regexp.MustCompile(`^[\x20-\x7e]*$`)
)

// Credential says who is calling: [APIKey], [Token] or [TokenSource].
type Credential struct {
	apiKey, userID, token string
	source                func(context.Context) (string, error)
	given                 int // of the three kinds
}

// APIKey is a tenant's backend that acts as a user.
func APIKey(key, userID string) Credential {
	return Credential{apiKey: key, userID: userID, given: 1}
}

// Token is one user, with a user token.
func Token(token string) Credential { return Credential{token: token, given: 2} }

// TokenSource is one user, with a function that returns a user token. It is called at first, and again when the server
// has refused the last one. It has 10 s; its context ends with them.
func TokenSource(source func(context.Context) (string, error)) Credential {
	return Credential{source: source, given: 3}
}

func (c Credential) check() error {
	switch c.given {
	case 1:
		if !headerPattern.MatchString(c.apiKey) || !headerPattern.MatchString(c.userID) {
			return errors.New("chatapi: the API key and the user id must be printable ASCII")
		}
	case 2:
		if !tokenPattern.MatchString(c.token) {
			return errors.New("chatapi: the token holds characters that no user token has")
		}
	case 3:
		if c.source == nil {
			return errors.New("chatapi: the token source is nil")
		}
	default:
		return errors.New("chatapi: give APIKey, Token or TokenSource")
	}
	return nil
}

// keyring makes the headers that say who is calling, and knows where a better token may come from.
type keyring struct {
	fixed  http.Header
	source func(context.Context) (string, error)

	asking sync.Mutex // one request for all that wait for a token
	mu     sync.Mutex
	token  string
}

func newKeyring(credential Credential) *keyring {
	keys := &keyring{fixed: http.Header{}, source: credential.source}
	switch {
	case credential.source != nil:
	case credential.token != "":
		keys.fixed.Set("Authorization", "Bearer "+credential.token)
	default:
		keys.fixed.Set("X-API-Key", credential.apiKey)
		keys.fixed.Set("X-User-Id", credential.userID)
	}
	return keys
}

func newMasterKeyring(masterKey string) *keyring {
	keys := &keyring{fixed: http.Header{}}
	keys.fixed.Set("X-Master-Key", masterKey)
	return keys
}

func (k *keyring) isRenewable() bool { return k.source != nil }

// headers returns a copy. If the source fails, the error is a *TokenError, and the next call asks again.
func (k *keyring) headers(ctx context.Context) (http.Header, error) {
	headers := k.fixed.Clone()
	if k.source == nil {
		return headers, nil
	}
	token, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	headers.Set("Authorization", "Bearer "+token)
	return headers, nil
}

func (k *keyring) current(ctx context.Context) (string, error) {
	k.asking.Lock()
	defer k.asking.Unlock()
	if token := k.peek(); token != "" {
		return token, nil
	}
	token, err := k.ask(ctx)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	k.token = token
	k.mu.Unlock()
	return token, nil
}

func (k *keyring) ask(ctx context.Context) (string, error) {
	asked, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := k.source(asked)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", &TokenError{err}
	case !tokenPattern.MatchString(token): // without its content: it may be a secret all the same
		return "", &TokenError{errors.New("the source returned characters that no token has, or nothing")}
	}
	return token, nil
}

func (k *keyring) peek() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.token
}

// renew forgets a token that the server refused. True when there may be a better one.
func (k *keyring) renew() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.token = ""
	return k.source != nil
}

// hasExpired tells whether the token in hand, which the server has refused, seems to be one that was good once.
func (k *keyring) hasExpired() bool {
	expiry, ok := readClaims(k.peek())["exp"].(float64)
	return ok && time.Unix(int64(expiry), 0).Before(time.Now().Add(expiryLeeway))
}

// userID is the caller's, as the key's header or the token says.
func (k *keyring) userID(ctx context.Context) (string, error) {
	headers, err := k.headers(ctx)
	if err != nil {
		return "", err
	}
	if userID := headers.Get("X-User-Id"); userID != "" {
		return userID, nil
	}
	_, token, _ := strings.Cut(headers.Get("Authorization"), " ")
	return fmt.Sprint(readClaims(token)["sub"]), nil
}

// readClaims reads those of a JWT, unverified: a hint, no proof.
func readClaims(token string) map[string]any {
	parts := strings.Split(token, ".")
	if len(parts) < 2 {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(data, &claims) != nil {
		return nil
	}
	return claims
}
