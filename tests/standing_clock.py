"""A clock that a test moves."""

from dataclasses import dataclass
from datetime import datetime

from studies import ISSUED


@dataclass
class StandingClock:
    """A clock that stands still until it is set."""

    time: datetime = ISSUED

    def now(self) -> datetime:
        return self.time
