package chatapi

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxAppendBytes = 16 * 1024 // of one append
	maxWaiting     = 64 * 1024 // bytes that the server does not have yet: beyond it the source is not asked for more
	maxReasonRunes = 1000      // of a failure: Meta has 16 KiB
	farewell       = 5 * time.Second
)

// signOfLife is the longest silence without text; the server gives a stream up after 60 s, if it is not set otherwise.
var signOfLife = 5 * time.Second

// Source makes the text of a stream, piece by piece. Its context ends when no more text is wanted; the source should end
// soon then, since a stream's call returns only after its source.
type Source func(ctx context.Context) iter.Seq2[string, error]

// Chunks is a source of an iterator that exists already. If the iterator does not end with the context of the stream's
// call, that returns after the piece that the iterator waits for.
func Chunks(pieces iter.Seq2[string, error]) Source {
	return func(context.Context) iter.Seq2[string, error] { return pieces }
}

// StreamFailure is an error for a [Source] to give: the stream ends as StreamFailed, and its Meta tells everybody in the
// room why, as "error": Reason, of which 1,000 characters are told.
type StreamFailure struct{ Reason string }

func (e *StreamFailure) Error() string { return e.Reason }

// streamTransport is how one stream's requests reach the server. Each is tried until the server has done or refused it.
type streamTransport struct {
	open   func(context.Context) (*Sent, error)
	append func(ctx context.Context, messageID string, index int, text string) (*AppendAnswer, error)
	finish func(ctx context.Context, messageID string, end Finish) (*Message, error)
}

// streamWriter is one stream. Appends are made of the text that has come while the one before was on its way.
type streamWriter struct {
	transport streamTransport
	meta      map[string]any // what it is opened with
	messageID string
	base      int      // the index when it was opened, or opened again
	texts     []string // of the appends after it

	mu          sync.Mutex
	waiting     strings.Builder
	tail        string        // bytes of a code point that is not whole yet
	changed     chan struct{} // holds one
	hasSpace    chan struct{} // holds one
	isCancelled bool          // somebody wants it to end
	isCutOff    bool          // the transport is closed: its next answer says so
	sourceErr   error
	wasStopped  bool // for a wish, before the source has ended by itself
	done        chan struct{}
}

func newStreamWriter(transport streamTransport, meta map[string]any) *streamWriter {
	return &streamWriter{
		transport: transport, meta: meta, changed: make(chan struct{}, 1), hasSpace: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// cancel: somebody wants it to end.
func (w *streamWriter) cancel() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCancelled = true
	signal(w.changed)
}

// cutOff: the transport is closed.
func (w *streamWriter) cutOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCutOff = true
	signal(w.changed)
}

// run returns the message, once it has ended. `opened` is called when the message is there.
func (w *streamWriter) run(ctx context.Context, source Source, opened func()) (*Message, error) {
	sent, err := w.transport.open(ctx)
	if err != nil {
		return nil, err
	}
	w.messageID = sent.MessageID
	if !sent.Stream.IsOpen() { // as it has ended before, or 404 if it was deleted, when it has no stream
		state := StreamCancelled
		if sent.Stream != nil {
			state = sent.Stream.State
		}
		return w.transport.finish(ctx, w.messageID, Finish{State: state})
	}
	w.base = sent.Stream.Index
	if sent.Stream.CancelRequested {
		w.cancel()
	}
	opened()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go w.pull(reading, source)
	err = w.write(ctx, stop)
	if err == nil {
		state := StreamDone
		if w.wasStopped {
			state = StreamCancelled
		}
		var message *Message
		if message, err = w.transport.finish(ctx, w.messageID, Finish{State: state, Index: Set(w.lastIndex())}); err == nil {
			return message, nil
		}
	}
	stop()
	<-w.done
	w.giveUp(ctx, err)
	return nil, err
}

// giveUp tells the server, within a moment: a stream that hears nothing more fails by itself. Why it ends is told to the
// caller anyway.
func (w *streamWriter) giveUp(ctx context.Context, err error) {
	end := w.describeEnd(ctx, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_, err = w.transport.finish(ctx, w.messageID, end)
	if refusal, ok := asRefusal(err); ok && refusal.Status == 400 && end.Meta.value != nil { // too long with the reason
		_, _ = w.transport.finish(ctx, w.messageID, Finish{State: end.State})
	}
}

func (w *streamWriter) describeEnd(ctx context.Context, err error) Finish {
	if ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return Finish{State: StreamCancelled}
	}
	end := Finish{State: StreamFailed}
	var failure *StreamFailure
	if errors.As(err, &failure) {
		reason := []rune(strings.ReplaceAll(failure.Reason, "\x00", "?"))
		meta := map[string]any{}
		for name, value := range w.meta {
			meta[name] = value
		}
		meta["error"] = string(reason[:min(len(reason), maxReasonRunes)])
		end.Meta = Set(meta)
	}
	return end
}

// pull is the source's own goroutine.
func (w *streamWriter) pull(ctx context.Context, source Source) {
	defer close(w.done)
	defer signal(w.changed)
	var failure error
	for piece, err := range source(ctx) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			failure = err
			break
		}
		if isFull := w.add(piece); isFull {
			select {
			case <-w.hasSpace:
			case <-ctx.Done():
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sourceErr = failure
	w.waiting.WriteString(strings.ToValidUTF8(w.tail, "\uFFFD"))
	w.tail = ""
}

// add keeps back a code point that is not whole yet: the pieces of a network answer end anywhere.
func (w *streamWriter) add(piece string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := w.tail + piece
	whole := wholeLength(text)
	w.tail = text[whole:]
	w.waiting.WriteString(strings.ToValidUTF8(text[:whole], "\uFFFD"))
	signal(w.changed)
	isFull := w.waiting.Len() >= maxWaiting
	if isFull {
		select {
		case <-w.hasSpace: // of an earlier time
		default:
		}
	}
	return isFull
}

// wholeLength is the length without the beginning of a code point at the end.
func wholeLength(text string) int {
	for back := 1; back <= utf8.UTFMax && back <= len(text); back++ {
		at := len(text) - back
		if utf8.RuneStart(text[at]) {
			if utf8.FullRuneInString(text[at:]) {
				break
			}
			return at
		}
	}
	return len(text)
}

// take is the text of the next append: whole code points.
func (w *streamWriter) take() string {
	text := w.waiting.String()
	cut := min(len(text), maxAppendBytes)
	for cut < len(text) && !utf8.RuneStart(text[cut]) {
		cut--
	}
	w.waiting.Reset()
	w.waiting.WriteString(text[cut:])
	signal(w.hasSpace)
	return text[:cut]
}

func (w *streamWriter) write(ctx context.Context, stop func()) error {
	for {
		isDone := isClosed(w.done)
		w.mu.Lock()
		isWanted, isCutOff := !w.isCancelled, w.isCutOff
		text := ""
		if (isWanted || isDone) && w.waiting.Len() > 0 {
			text = w.take()
		}
		w.mu.Unlock()
		switch {
		case !isWanted && !isDone:
			w.wasStopped = true
			stop()
			<-w.done
		case text != "":
			if err := w.send(ctx, text); err != nil {
				return err
			}
		case isDone:
			if w.wasStopped {
				return nil
			}
			if w.sourceErr == nil && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return w.sourceErr
		default:
			if err := w.wait(ctx, isCutOff); err != nil {
				return err
			}
		}
	}
}

// wait is for text, or the end. A source that takes its time is alive all the same.
func (w *streamWriter) wait(ctx context.Context, isCutOff bool) error {
	if !isCutOff {
		timer := time.NewTimer(signOfLife)
		defer timer.Stop()
		select {
		case <-w.changed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	return w.tell(ctx, w.lastIndex(), "")
}

func (w *streamWriter) lastIndex() int { return w.base + len(w.texts) }

func (w *streamWriter) send(ctx context.Context, text string) error {
	w.texts = append(w.texts, text)
	for index := w.lastIndex(); index <= w.lastIndex(); {
		err := w.tell(ctx, index, w.texts[index-w.base-1])
		if err == nil {
			index++
		} else if index = w.findNext(err, index); index < 0 {
			return err
		}
	}
	return nil
}

// findNext is where to go on: a server that was set back may lack appends that it had confirmed. Below 0: nowhere.
func (w *streamWriter) findNext(err error, index int) int {
	refusal, isRefusal := asRefusal(err)
	if !isRefusal || refusal.Status != 409 || refusal.Details["state"] != StreamOpen {
		return -1
	}
	stored, isNumber := refusal.Details["index"].(float64)
	if !isNumber || int(stored) < w.base || int(stored) >= index-1 {
		return -1
	}
	return int(stored) + 1
}

func (w *streamWriter) tell(ctx context.Context, index int, text string) error {
	got, err := w.transport.append(ctx, w.messageID, index, text)
	if err == nil && got.CancelRequested {
		w.cancel()
	}
	return err
}
