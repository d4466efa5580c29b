"""Frames: a message arrives whole, as it was sent, or not at all."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mllp_peers import CR, FS, VT, frame

from cds_server.mllp.framing import FrameBuffer, FrameFault, framed

MESSAGES = st.lists(
    st.binary(min_size=1, max_size=60).map(
        lambda content: content.replace(VT, b"v").replace(FS, b"f")
    ),
    min_size=1,
    max_size=5,
)


def taken(pieces: list[bytes], *, largest_bytes: int = 1000) -> list[bytes]:
    buffer = FrameBuffer(largest_bytes)
    messages = []
    for piece in pieces:
        buffer.add(piece)
        while (message := buffer.take()) is not None:
            messages.append(message)
    return messages


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({each % (len(stream) + 1) for each in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(places)]


@given(MESSAGES, st.lists(st.integers(0, 500), max_size=20), st.sampled_from([b"", b"\r", b"\r\n"]))
def test_messages_arrive_whole_however_the_network_cuts_them(
    messages: list[bytes], cuts: list[int], between: bytes
) -> None:
    stream = between.join(framed(each) for each in messages)
    assert taken(cut(stream, cuts)) == messages
    assert taken([stream[at : at + 1] for at in range(len(stream))]) == messages


@given(st.binary(max_size=80), st.lists(st.integers(0, 100), max_size=8))
def test_no_bytes_at_all_give_a_message_with_a_frame_in_it(stream: bytes, cuts: list[int]) -> None:
    try:
        messages = taken(cut(stream, cuts))
    except FrameFault:
        return
    for each in messages:
        assert each
        assert VT not in each
        assert FS not in each
        assert frame(each) in stream


@pytest.mark.parametrize("message", [b"", b"MSH|a\x1cb", b"MSH|a\x0bb", b"\x1c\r", b"a\x1c"])
def test_a_message_that_would_end_its_own_frame_is_never_framed(message: bytes) -> None:
    with pytest.raises(FrameFault):
        framed(message)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"MSH|no start" + FS + CR,
        b" " + frame(b"MSH|"),
        frame(b"MSH|") + b"noise" + frame(b"MSH|"),
        VT + b"MSH|first, cut off" + frame(b"MSH|second"),
        VT + b"MSH|an end that is none" + FS + b"|more" + FS + CR,
        VT + b"MSH|no carriage return" + FS + VT + b"MSH|" + FS + CR,
        VT + FS + CR,
    ],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(FrameFault):
        taken([stream])


def test_an_end_without_its_carriage_return_is_no_end() -> None:
    assert taken([VT + b"MSH|" + FS]) == []
    assert taken([VT + b"MSH|" + FS, CR]) == [b"MSH|"]


def test_a_message_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    assert taken([frame(b"x" * 10)], largest_bytes=10) == [b"x" * 10]
    with pytest.raises(FrameFault, match="larger than 10 bytes"):
        taken([frame(b"x" * 11)], largest_bytes=10)
    with pytest.raises(FrameFault, match="larger than 10 bytes"):
        taken([VT, b"x" * 6, b"x" * 6], largest_bytes=10)


def test_a_frame_without_end_is_looked_through_once() -> None:
    """A million pieces of one byte take a moment, not hours."""
    buffer = FrameBuffer(2_000_000)
    buffer.add(VT)
    for _ in range(1_000_000):
        buffer.add(b"x")
        assert buffer.take() is None
