"""Notifications that were seen: each is handed over once, and acknowledged until the server has heard it."""

from collections import OrderedDict
from collections.abc import Iterator

REMEMBERED = 10_000  # ids; an older one that comes again is handed over again


class NotificationBook:
    def __init__(self) -> None:
        self._is_done: OrderedDict[str, bool] = OrderedDict()  # False: with the application
        self._handled: dict[str, None] = {}  # by the application, and not acknowledged yet
        self._named: dict[str, None] = {}  # as `_handled`, by an acknowledgement of the application's own

    def take(self, notification_id: str) -> bool:
        """True when it is new. One that comes again although it was done with has to be acknowledged again."""
        if notification_id not in self._is_done:
            self._is_done[notification_id] = False
            if len(self._is_done) > REMEMBERED:
                self._is_done.popitem(last=False)
            return True
        if self._is_done[notification_id]:
            self._handled[notification_id] = None
        return False

    def handle(self, notification_id: str) -> None:
        """The application is done with it."""
        self._is_done[notification_id] = True
        self._handled[notification_id] = None

    def acknowledge(self, notification_id: str) -> None:
        """The application says so itself."""
        self._is_done[notification_id] = True
        self._named[notification_id] = None

    def take_acks(self, *, handled: bool) -> Iterator[str]:
        """Taken as they are sent; without `handled` only those that the application named."""
        while self._named:
            yield self._named.popitem()[0]
        while handled and self._handled:
            yield self._handled.popitem()[0]
        self._handled.clear()
