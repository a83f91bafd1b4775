"""Where the thread of one call sleeps until its reply is there."""

from __future__ import annotations

import threading

from headrace.front import Reply


class Ticket:
    """The first reply counts; None stands for a caller who has gone."""

    __slots__ = ("_lock", "_reply", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._reply: Reply | None = None
        # a bare lock: an Event costs three times as much
        self._lock = threading.Lock()
        self._lock.acquire()

    def settle(self, reply: Reply | None) -> bool:
        """Whether this was the first, and a reply."""
        if self.settled:
            return False
        self.settled = True
        self._reply = reply
        # two settlers at one moment: the later finds the lock released
        try:
            self._lock.release()
        except RuntimeError:
            return False
        return reply is not None

    def wait(self) -> Reply:
        """The reply, once it is there; an empty one when the caller has gone."""
        self._lock.acquire()
        return self._reply or Reply()
