"""Every decoder keeps the same promises: the sandbox, and the stand-in of other tests."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import sample
from hostile import HOSTILE, element, part10, without
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from studies import chest_instance
from syntaxes import LOSSLESS, LOSSY, encoded, file_of

from ai_engine.preprocess import InputSpec, network_input
from ai_engine.result import Reason
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.adapters.instance_header import header_of
from cds_server.adapters.sandboxed_decoder import SandboxedDecoder
from cds_server.errors import InstanceUnreadable
from cds_server.imaging import Decoder
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.pixels import image
from fhir_mappers.viewer_images import pixels

SPEC = InputSpec(rows=380, columns=380, mean=0.5, std=0.25)
CHARACTER_SETS = [Path(each) for each in get_charset_files("*.dcm")]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxedDecoder]:
    with SandboxedDecoder() as decoder:
        yield decoder


@pytest.fixture(params=["sandbox", "in process"])
def decoder(request: pytest.FixtureRequest, sandbox: SandboxedDecoder) -> Decoder:
    return sandbox if request.param == "sandbox" else InProcessDecoder()


# ── For the model ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "693_UNCR.dcm", "JPEG-LL.dcm", "mlut_18.dcm"])
def test_an_instance_is_what_its_file_says(decoder: Decoder, name: str) -> None:
    original = pydicom.dcmread(sample(name))
    decoded = decoder.decode(sample(name).read_bytes())
    expected = image(original)
    assert np.array_equal(decoded.image.pixels, expected.pixels)
    assert decoded.image.pixels.dtype == np.float32
    for said in ("subject", "view", "age_band", "pixel_spacing_mm"):
        assert getattr(decoded.image, said) == getattr(expected, said)
    kept = {tag for tag in original.keys() if tag.element and 8 <= tag.group < 0x7FE0}  # noqa: SIM118
    assert set(decoded.header.keys()) == kept
    assert all(decoded.header[tag] == original[tag] for tag in kept)


def test_a_header_names_its_file_and_holds_no_pixels(decoder: Decoder) -> None:
    header = decoder.decode(sample("RG1_J2KR.dcm").read_bytes()).header
    original = pydicom.dcmread(sample("RG1_J2KR.dcm"))
    assert "PixelData" not in header
    for keyword in ("TransferSyntaxUID", "MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID"):
        assert header.file_meta[keyword].value == original.file_meta[keyword].value


def names(dataset: Dataset) -> list[tuple[object, bytes]]:
    """Give every name, also within sequences: its letters, and the bytes of the file."""
    found = [each for each in dataset.iterall() if each.VR == "PN" and each.value]
    assert found
    values = [each.value if each.VM > 1 else [each.value] for each in found]
    return [(name, name.original_string) for several in values for name in several]


@pytest.mark.parametrize("path", CHARACTER_SETS, ids=[each.name for each in CHARACTER_SETS])
def test_a_name_in_any_script_arrives_as_it_was(decoder: Decoder, path: Path) -> None:
    original = pydicom.dcmread(path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if keyword not in original:
            setattr(original, keyword, "2.999.1")
    if "PixelData" not in original:
        original.update(chest_instance().group_dataset(0x0028))
        original["PixelData"] = chest_instance()["PixelData"]
    header = decoder.decode(file_of(original)).header
    assert header.get("SpecificCharacterSet") == original.get("SpecificCharacterSet")
    assert names(header) == names(original)


def test_a_header_alone_is_that_of_the_whole_instance(decoder: Decoder, rg1_path: Path) -> None:
    content = rg1_path.read_bytes()
    assert decoder.header(content) == decoder.decode(content).header


@pytest.mark.parametrize("path", CHARACTER_SETS, ids=[each.name for each in CHARACTER_SETS])
def test_a_header_is_opened_of_what_holds_no_image_too(decoder: Decoder, path: Path) -> None:
    original = pydicom.dcmread(path, stop_before_pixels=True)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if keyword not in original:
            setattr(original, keyword, "2.999.1")
    assert names(decoder.header(file_of(original))) == names(original)


@pytest.mark.parametrize("content", [b"", b"no DICOM file at all", b"\0" * 128 + b"DICM"])
def test_a_header_of_nothing_is_unreadable(decoder: Decoder, content: bytes) -> None:
    with pytest.raises(InstanceUnreadable):
        decoder.header(content)


@pytest.mark.parametrize("path", CHARACTER_SETS, ids=[each.name for each in CHARACTER_SETS])
def test_no_byte_of_a_text_changes_on_the_way(path: Path) -> None:
    original = pydicom.dcmread(path, stop_before_pixels=True)
    whole = path.read_bytes()
    texts = [each.value for each in original.values() if each.is_raw and each.VR in {"PN", "LO"}]
    content = header_of(pydicom.dcmread(path)).content
    assert texts
    assert all(text in content and text in whole for text in texts if text)


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_model_sees_the_same_numbers_in_every_lossless_syntax(
    sandbox: SandboxedDecoder, rg1_path: Path, name: str
) -> None:
    expected = image(pydicom.dcmread(rg1_path)).pixels
    seen = sandbox.decode(encoded(rg1_path, name)).image.pixels
    assert np.array_equal(seen, expected)
    assert network_input(seen, SPEC).tobytes() == network_input(expected, SPEC).tobytes()


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_syntax_is_close(sandbox: SandboxedDecoder, rg1_path: Path, name: str) -> None:
    expected = image(pydicom.dcmread(rg1_path)).pixels
    seen = sandbox.decode(encoded(rg1_path, name)).image.pixels
    assert not np.array_equal(seen, expected)
    assert np.abs(network_input(seen, SPEC) - network_input(expected, SPEC)).mean() < 0.02


def test_what_is_too_long_for_words_is_left_out_of_the_header(decoder: Decoder) -> None:
    short = element(0x00091011, "OB", b"\x01" * 1000)
    long = element(0x00091012, "OB", b"\x02" * 100_000)
    creator = element(0x00090010, "LO", b"NOBODY")
    file = part10(creator + short + long + without())
    header = decoder.decode(file).header
    assert header[0x00091011].value == b"\x01" * 1000
    assert 0x00091012 not in header
    assert header.PatientID == "MRN 123456"


def test_an_attribute_that_nobody_can_read_is_left_out_alone(decoder: Decoder) -> None:
    header = decoder.decode(HOSTILE["a name of numbers"].make()).header
    assert "PatientName" not in header
    assert header.PatientID == "MRN 123456"


def test_an_odd_value_is_kept_as_it_is(decoder: Decoder) -> None:
    age = element(0x00101010, "AS", b"forty years ")
    header = decoder.decode(part10(age + without())).header
    assert header.get_item("PatientAge").value == b"forty years "


def test_nothing_of_the_preamble_comes_back(decoder: Decoder) -> None:
    decoded = decoder.decode(HOSTILE["a program in the preamble"].make())
    file = io.BytesIO()
    decoded.header.save_as(file, implicit_vr=False, little_endian=True)
    assert b"this program" not in file.getvalue()


def test_what_is_no_image_for_the_model_is_declined_with_its_reason(decoder: Decoder) -> None:
    for changes, reason in (
        ({"PixelData": None}, Reason.NO_IMAGE),
        ({"NumberOfFrames": 2, "Rows": 128}, Reason.MULTI_FRAME),
        ({"SamplesPerPixel": 3}, Reason.POOR_QUALITY),
    ):
        with pytest.raises(ImageDeclined) as declined:
            decoder.decode(file_of(chest_instance(**changes)))
        assert declined.value.outcome.reason is reason


def test_what_is_no_dicom_file_is_unreadable(decoder: Decoder) -> None:
    with pytest.raises(InstanceUnreadable, match="not a DICOM file"):
        decoder.decode(b"\x89PNG" * 100)


# ── For the viewer ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_viewer_shows_the_same_values_in_every_lossless_syntax(
    sandbox: SandboxedDecoder, name: str
) -> None:
    path = sample("693_UNCR.dcm")
    expected = pixels(pydicom.dcmread(path), 0)
    assert sandbox.pixels(encoded(path, name), 0) == expected


@pytest.mark.parametrize(
    "name",
    ["emri_small_big_endian.dcm", "emri_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm"],
)
def test_a_frame_is_the_one_that_was_asked_for(decoder: Decoder, name: str) -> None:
    frames = pydicom.dcmread(sample(name)).pixel_array
    file = sample(name).read_bytes()
    for frame in (0, 4, 9):
        shown = decoder.pixels(file, frame)
        assert np.array_equal(
            np.frombuffer(shown.stored, "<u2").reshape(frames.shape[1:]), frames[frame]
        )


@pytest.mark.parametrize("frame", [-1, 10, 2**31])
def test_a_frame_that_is_not_there_is_said(decoder: Decoder, frame: int) -> None:
    with pytest.raises(ImageDeclined, match="no such frame"):
        decoder.pixels(sample("emri_small_RLE.dcm").read_bytes(), frame)


def test_no_frame_is_decoded_but_the_one_that_is_shown(decoder: Decoder) -> None:
    dataset = pydicom.dcmread(sample("emri_small_jpeg_2k_lossless.dcm"))
    frames = list(generate_frames(dataset.PixelData, number_of_frames=10))
    dataset.PixelData = encapsulate([frames[0], b"\x00" * 100, *frames[2:]])
    file = file_of(dataset)
    assert decoder.pixels(file, 0).stored
    assert decoder.pixels(file, 2).stored
    with pytest.raises(ImageDeclined, match="damaged"):
        decoder.pixels(file, 1)


def test_a_window_and_a_slope_arrive_as_they_are(decoder: Decoder) -> None:
    ct = pydicom.dcmread(sample("693_UNCR.dcm"))
    shown = decoder.pixels(sample("693_UNCR.dcm").read_bytes(), 0)
    assert shown == pixels(ct, 0)
    assert shown.intercept == -1024 - 2000
    assert decoder.pixels(sample("RG1_UNCR.dcm").read_bytes(), 0).invert


def unidentified() -> Dataset:
    return chest_instance(SeriesInstanceUID="1.2.x")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_identifier_that_is_none_is_said_and_not_repeated(decoder: Decoder) -> None:
    file = file_of(unidentified())
    for ask in (lambda: decoder.decode(file), lambda: decoder.pixels(file, 0)):
        with pytest.raises(InstanceUnreadable, match="SeriesInstanceUID") as error:
            ask()
        assert "1.2.x" not in str(error.value)
