package chatapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// download writes what a route serves without an envelope. One try, for as long as ctx lets it.
func (r *requester) download(ctx context.Context, keys *keyring, path string, to io.Writer) (int64, error) {
	response, err := r.open(ctx, keys, http.MethodGet, path, "", nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	name := http.MethodGet + " " + path
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
		if err != nil {
			return 0, &NoAnswerError{name, err}
		}
		_, err = answer{name, response.StatusCode, response.Header, body}.text()
		return 0, err
	}
	from := &source{reader: response.Body}
	written, err := io.Copy(to, from)
	switch {
	case ctx.Err() != nil:
		return written, context.Cause(ctx)
	case from.err != nil:
		return written, &NoAnswerError{name, from.err}
	}
	return written, err
}

// upload sends a file, and returns the answer's data. One try, as download.
func (r *requester) upload(ctx context.Context, keys *keyring, path, media string, from io.Reader, wanted shape) (json.RawMessage, error) {
	response, err := r.open(ctx, keys, http.MethodPost, path, media, from)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	name := http.MethodPost + " " + path
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return nil, &NoAnswerError{name, err}
	}
	return answer{name, response.StatusCode, response.Header, body}.data(wanted)
}

func (r *requester) open(ctx context.Context, keys *keyring, method, path, media string, body io.Reader) (*http.Response, error) {
	headers, err := keys.headers(ctx)
	if err != nil {
		return nil, err
	}
	if media != "" {
		headers.Set("Content-Type", media)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.locate(path, nil), body)
	if err != nil {
		return nil, err
	}
	request.Header = headers
	response, err := r.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &NoAnswerError{method + " " + path, err}
	}
	return response, nil
}

// source tells an error of the server's from one of the writer.
type source struct {
	reader io.Reader
	err    error
}

func (s *source) Read(buffer []byte) (int, error) {
	count, err := s.reader.Read(buffer)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return count, err
}
