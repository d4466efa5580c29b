"""No file takes the server's time, memory or words. Each has its own kind of refusal."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import sample
from hostile import HOSTILE, READ, UNREADABLE

from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.adapters.sandboxed_decoder import SandboxedDecoder
from cds_server.errors import InstanceUnreadable
from cds_server.imaging import DecodedInstance
from fhir_mappers.errors import ImageDeclined

ROOT = Path(__file__).parent.parent.parent
LONGEST_S = 3.0
MOST_RSS_MB = 1024

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.alone,
]


def fate(open_it: Callable[[], object]) -> tuple[str, str]:
    """Say what became of a file, and in which words."""
    try:
        open_it()
    except InstanceUnreadable as error:
        return UNREADABLE, str(error)
    except ImageDeclined as error:
        return error.outcome.reason, error.outcome.detail
    return READ, ""


@pytest.fixture(scope="module")
def radiograph() -> tuple[bytes, DecodedInstance]:
    file = sample("693_UNCR.dcm").read_bytes()
    return file, InProcessDecoder().decode(file)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_answered_in_time_and_the_next_image_is_right(
    name: str, radiograph: tuple[bytes, DecodedInstance]
) -> None:
    hostile = HOSTILE[name]
    file = hostile.make()
    with SandboxedDecoder() as decoder:
        began = time.monotonic()
        for_model = fate(lambda: decoder.decode(file))
        answered = time.monotonic()
        for_viewer = fate(lambda: decoder.pixels(file, 0))
        shown = time.monotonic()
        assert (for_model[0], for_viewer[0]) == (hostile.decode, hostile.pixels)
        assert answered - began < LONGEST_S
        assert shown - answered < LONGEST_S
        after = decoder.decode(radiograph[0])
    assert (after.image.pixels == radiograph[1].image.pixels).all()
    assert after.header == radiograph[1].header
    for _, words in (for_model, for_viewer):
        assert re.fullmatch(r"([A-Z][^\n]{20,150}\.)?", words), words
        assert not re.search("MRN|TEST|evil|Error|Traceback", words), words


@pytest.mark.parametrize("name", HOSTILE)
def test_the_stand_in_of_other_tests_answers_the_same(name: str) -> None:
    hostile = HOSTILE[name]
    file = hostile.make()
    decoder = InProcessDecoder()
    assert fate(lambda: decoder.decode(file))[0] == hostile.decode
    assert fate(lambda: decoder.pixels(file, 0))[0] == hostile.pixels


OPEN_ALL = """
import contextlib, json, resource, sys, warnings
warnings.simplefilter("ignore")
from hostile import HOSTILE
from cds_server.adapters.sandboxed_decoder import SandboxedDecoder
from cds_server.errors import InstanceUnreadable
from fhir_mappers.errors import ImageDeclined
with SandboxedDecoder() as decoder:
    for each in HOSTILE.values():
        file = each.make()
        for ask in (lambda: decoder.decode(file), lambda: decoder.pixels(file, 0)):
            with contextlib.suppress(InstanceUnreadable, ImageDeclined):
                ask()
(server,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
json.dump([int(server.split()[1]) / 1024, of_children / 1024], sys.stdout)
"""


def test_server_and_decoder_together_stay_within_a_gibibyte() -> None:
    opened = subprocess.run(
        [sys.executable, "-c", OPEN_ALL],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    server_mb, decoder_mb = json.loads(opened.stdout)
    assert decoder_mb > 300, "the largest file was not opened"
    assert server_mb + decoder_mb < MOST_RSS_MB
