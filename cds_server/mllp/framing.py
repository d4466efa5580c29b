"""MLLP frames: ``<VT>`` message ``<FS><CR>``. Bytes in, messages out; no sockets.

References
----------
HL7 Version 3 Transport Specification: MLLP, Release 1 (the frame of HL7 v2 over TCP).
"""

START, END, AFTER_END = 0x0B, 0x1C, 0x0D
_BLANK = b"\r\n"


class FrameFault(Exception):
    """What is sent or arrives is no message in a frame; says why, without a byte of it."""


def framed(message: bytes) -> bytes:
    """Give a message in its frame.

    Raises
    ------
    FrameFault
        If it is empty, or holds a character that starts or ends a frame: the receiver would take
        a part of it for the whole.
    """
    if not message:
        msg = "there is no message"
        raise FrameFault(msg)
    if START in message or END in message:
        msg = "the message holds 0x0B or 0x1C, which start and end a frame"
        raise FrameFault(msg)
    return b"%c%b%c%c" % (START, message, END, AFTER_END)


class FrameBuffer:
    """Takes bytes as they arrive, and gives whole messages.

    Strict where a message could lose its end or get another's: ``<FS>`` counts only with its
    ``<CR>``, and no message holds a ``<VT>`` or ``<FS>``. Only line ends may stand between frames.

    Parameters
    ----------
    largest_bytes
        Of one message.
    """

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._held = bytearray()
        self._looked_through = 0

    @property
    def begun(self) -> bool:
        """Whether there is anything of a message."""
        return bool(self._held)

    def add(self, piece: bytes) -> None:
        """Take what arrived.

        Raises
        ------
        FrameFault
            If it is not the start of a frame where one has to start.
        """
        self._held += piece
        self._expect_start()

    def _expect_start(self) -> None:
        """Pass by line ends between frames.

        Raises
        ------
        FrameFault
            If anything but a frame follows.
        """
        if self._held and self._held[0] in _BLANK:
            del self._held[: len(self._held) - len(self._held.lstrip(_BLANK))]
        if self._held and self._held[0] != START:
            msg = "what arrives does not start as an MLLP frame (0x0B)"
            raise FrameFault(msg)

    def take(self) -> bytes | None:
        """Give the next message, once it is whole.

        Raises
        ------
        FrameFault
            If it is too large, or its frame does not end as it must.
        """
        end = self._held.find(END, self._looked_through)
        size = (end if end >= 0 else len(self._held)) - 1
        if size > self._largest_bytes:
            msg = f"a message is larger than {self._largest_bytes:,} bytes"
            raise FrameFault(msg)
        if end < 0 or end + 1 == len(self._held):
            self._looked_through = len(self._held) if end < 0 else end
            return None
        message = bytes(self._held[1:end])
        if self._held[end + 1] != AFTER_END or START in message or not message:
            msg = "a frame does not end as it must (0x1C 0x0D), or another starts within it"
            raise FrameFault(msg)
        del self._held[: end + 2]
        self._looked_through = 0
        self._expect_start()
        return message
