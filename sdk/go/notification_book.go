package chatapi

const rememberedNotifications = 10_000 // ids; an older one that comes again is handed over again

// notificationBook keeps which notifications were seen: each is handed over once, and acknowledged until the server has
// heard it.
type notificationBook struct {
	isDone  map[string]bool // false: with the application
	order   []string        // of the ids, the oldest first
	handled map[string]bool // by the application, and not acknowledged yet
	named   map[string]bool // as `handled`, by an acknowledgement of the application's own
}

func newNotificationBook() *notificationBook {
	return &notificationBook{isDone: map[string]bool{}, handled: map[string]bool{}, named: map[string]bool{}}
}

// take is true when it is new. One that comes again although it was done with has to be acknowledged again.
func (b *notificationBook) take(id string) bool {
	isDone, isKnown := b.isDone[id]
	if !isKnown {
		b.note(id, false)
		return true
	}
	if isDone {
		b.handled[id] = true
	}
	return false
}

func (b *notificationBook) note(id string, isDone bool) {
	if _, isKnown := b.isDone[id]; !isKnown {
		b.order = append(b.order, id)
		if len(b.order) > rememberedNotifications {
			delete(b.isDone, b.order[0])
			b.order = b.order[1:]
		}
	}
	b.isDone[id] = isDone
}

// handle: the application is done with it.
func (b *notificationBook) handle(id string) {
	b.note(id, true)
	b.handled[id] = true
}

// acknowledge: the application says so itself.
func (b *notificationBook) acknowledge(id string) {
	b.note(id, true)
	b.named[id] = true
}

// takeAcks is the ids to acknowledge, taken as they are sent; without `handled` only those that the application named.
func (b *notificationBook) takeAcks(handled bool, most int) []string {
	var ids []string
	for id := range b.named {
		if len(ids) == most {
			return ids
		}
		ids = append(ids, id)
		delete(b.named, id)
	}
	if !handled {
		clear(b.handled)
	}
	for id := range b.handled {
		if len(ids) == most {
			return ids
		}
		ids = append(ids, id)
		delete(b.handled, id)
	}
	return ids
}
