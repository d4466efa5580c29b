"""What a PACS rewrote is compared without believing what a source says of its patient."""

import io
import warnings
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from studies import chest_instance

from cds_server.adapters.same_object import same_content
from fhir_mappers.patient_and_study import encoded


def file_of(dataset: Dataset) -> bytes:
    return b"\0" * 128 + b"DICM" + encoded(dataset)


def described(content: bytes) -> dict[str, Any]:
    """Give what a PACS says of a file: what it cannot read it leaves out."""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    del dataset.PatientWeight
    del dataset.PixelData
    return dict(dataset.to_json_dict())


@pytest.fixture
def ours() -> bytes:
    dataset = chest_instance()
    tag = Tag("PatientWeight")
    dataset[tag] = RawDataElement(
        tag, "DS", 4, b"72,5", 0, is_implicit_VR=False, is_little_endian=True
    )
    return file_of(dataset)


def test_a_weight_that_is_no_number_does_not_hide_our_own_object(ours: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(ours))
        assert dataset.PatientWeight == "72,5"
        with pytest.raises(ValueError, match="72,5"):
            dataset.to_json_dict()
    assert same_content(ours, ours, described(ours))


def test_another_object_is_still_another(ours: bytes) -> None:
    said = described(ours)
    said["00080060"] = {"vr": "CS", "Value": ["CR"]}
    assert not same_content(ours, ours, said)
    assert not same_content(ours, ours.replace(b"\x99\x0c" * 8, b"\0\0" * 8), {})
