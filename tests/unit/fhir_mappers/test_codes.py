"""Codes say what was done and found, and no more."""

from dataclasses import replace

import pytest
from studies import OUTCOMES, chest_study

from fhir_mappers import codes
from fhir_mappers.study import Series, Study

RADIOGRAPH = chest_study().series[0].instances[0]


def study(*members: tuple[str, int]) -> Study:
    """Give a study with a series of each modality, of one instance with so many frames."""
    return chest_study(
        series=tuple(
            Series(f"1.{n}", modality, "", "", n, (replace(RADIOGRAPH, number_of_frames=frames),))
            for n, (modality, frames) in enumerate(members)
        )
    )


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([("DX", 1)], codes.CHEST_ONE_VIEW),
        ([("CR", 1), ("SR", 0)], codes.CHEST_ONE_VIEW),
        ([("DX", 1), ("PR", 0), ("OT", 1)], codes.CHEST_ONE_VIEW),
        ([("DX", 1), ("DX", 0)], codes.CHEST_ONE_VIEW),
        ([("DX", 1), ("CR", 1), ("SR", 0)], codes.CHEST_TWO_VIEWS),
        ([("DX", 1)] * 3, codes.IMAGING_STUDY_REPORT),
        ([("CT", 1)], codes.IMAGING_STUDY_REPORT),
    ],
)
def test_only_radiographs_are_views(members: list[tuple[str, int]], code: tuple[str, str]) -> None:
    assert codes.procedure(study(*members), OUTCOMES["flagged"]) == code
    assert codes.procedure(study(*members), OUTCOMES["failed"]) == codes.IMAGING_STUDY_REPORT


def test_the_modality_of_an_instance_counts_before_that_of_its_series() -> None:
    structured = replace(RADIOGRAPH, modality="SR")
    mixed = chest_study(series=(Series("1.1", "DX", "", "", 1, (RADIOGRAPH, structured)),))
    assert codes.procedure(mixed, OUTCOMES["flagged"]) == codes.CHEST_ONE_VIEW


def test_only_a_finding_above_its_threshold_has_an_acr_category() -> None:
    named = {name for name, each in OUTCOMES.items() if codes.triage(each).acr}
    assert named == {"urgent", "flagged"}
