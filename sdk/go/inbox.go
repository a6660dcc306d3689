package chatapi

const maxInboxBytes = 8 << 20 // of frames: a thousand of the longest messages would be 100 MB

// entry is an event that waits for the application; room is set if it is of a log.
type entry struct {
	frame *frame
	room  *cursor
}

// inbox is bounded: a slow application stops the socket, and memory does not grow.
type inbox struct {
	most    int
	entries []entry
	bytes   int
	isEnded bool
	err     error // what ended it, if anything went wrong
}

func (i *inbox) isFull() bool { return len(i.entries) >= i.most || i.bytes >= maxInboxBytes }

// free is how many events to ask for at once: none before half of it is free, so that they are asked for in pages.
func (i *inbox) free() int {
	free := i.most - len(i.entries)
	if 2*free >= i.most && 2*i.bytes <= maxInboxBytes {
		return free
	}
	return 0
}

// put takes the event in any case. A goroutine that can wait looks at isFull first.
func (i *inbox) put(e entry) {
	if !i.isEnded {
		i.entries = append(i.entries, e)
		i.bytes += len(e.frame.data)
	}
}

func (i *inbox) take() entry {
	e := i.entries[0]
	i.entries[0] = entry{}
	i.entries = i.entries[1:]
	i.bytes -= len(e.frame.data)
	return e
}

func (i *inbox) end(err error) {
	if !i.isEnded {
		i.isEnded, i.err = true, err
	}
}

func (i *inbox) discard() { i.entries, i.bytes = nil, 0 }
