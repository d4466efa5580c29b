"""The real time."""

from datetime import UTC, datetime


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Give the time with its offset."""
        return datetime.now(UTC)  # noqa: TID251 - the one place
