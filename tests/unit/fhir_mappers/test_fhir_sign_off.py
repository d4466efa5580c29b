"""What a radiologist's word, and a recall, make of a published result."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fhir_mutants import JPEG, RADIOLOGIST, Resource, bundle, of_type, resources, sign_off
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ISSUED, OUTCOMES, chest_study, context, site

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.profiles import Profile, profile_faults
from fhir_mappers.recall import recalled_bundle
from fhir_mappers.report_context import DisplayMode, Recall, Verdict
from fhir_mappers.transaction import transaction_bundle

ANALYSED = ("urgent", "flagged", "normal")
RECALL = Recall("The model reads images of one detector wrongly.", ISSUED + timedelta(days=90))


def report(content: bytes) -> Resource:
    return of_type(content, "DiagnosticReport")[0]


def addresses(content: bytes) -> list[str]:
    return [f"{each['resourceType']}/{each['id']}" for each in resources(content)]


def words(content: bytes) -> tuple[str, str, str]:
    """Give what the report says in each of its three places."""
    said = report(content)
    page = base64.b64decode(said["presentedForm"][0]["data"]).decode()
    return said["conclusion"], said["text"]["div"], page


@pytest.mark.parametrize("name", ANALYSED)
@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.CONFIRMED, "final"), (Verdict.CORRECTED, "amended")]
)
def test_a_radiologist_makes_it_final_or_amended(name: str, verdict: Verdict, status: str) -> None:
    signed = bundle(name, verdict)
    assert report(signed)["status"] == status
    assert {each["status"] for each in of_type(signed, "Observation")} == {status}
    assert report(signed)["issued"] == "2026-11-20T11:30:04.000+00:00"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_ids_stay_so_that_a_put_replaces_what_was_preliminary(verdict: Verdict) -> None:
    before, after = addresses(bundle()), addresses(bundle(verdict=verdict))
    assert set(before) <= set(after)
    [added] = set(after) - set(before)
    assert added.startswith("Provenance/")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_same_sign_off_is_the_same_bytes(verdict: Verdict) -> None:
    assert bundle(verdict=verdict) == bundle(verdict=verdict)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_interpreter_is_the_radiologist_by_identifier_and_name(verdict: Verdict) -> None:
    assert report(bundle(verdict=verdict))["resultsInterpreter"] == [
        {
            "type": "Practitioner",
            "identifier": {
                "system": "https://fhir.hl7.org.uk/Id/gmc-number",
                "value": "C1234567",
            },
            "display": RADIOLOGIST,
        }
    ]
    assert "resultsInterpreter" not in report(bundle())


def test_a_radiologist_without_a_namespace_is_put_in_none() -> None:
    signed = sign_off(Verdict.CONFIRMED, identifier=("", "7"))
    made = transaction_bundle(
        chest_study(),
        OUTCOMES["urgent"],
        context=replace(context(), signed=signed),
        overlay_jpeg=None,
    )
    assert report(made)["resultsInterpreter"][0]["identifier"] == {"value": "7"}


def test_the_radiologist_answers_for_what_they_confirmed_and_not_for_what_they_corrected() -> None:
    for observation in of_type(bundle(verdict=Verdict.CONFIRMED), "Observation"):
        assert observation["performer"][0]["display"] == RADIOLOGIST
    for observation in of_type(bundle(verdict=Verdict.CORRECTED), "Observation"):
        assert "performer" not in observation
        assert "still the AI's" in observation["note"][0]["text"]


def test_the_correction_leads_and_the_words_of_the_ai_stay_marked_as_its_own() -> None:
    said = report(bundle())["conclusion"]
    for place in words(bundle(verdict=Verdict.CORRECTED)):
        statement = place.index("Left lower lobe pneumonia.")
        marked = place.index("The AI had said otherwise:")
        assert statement < place.index(f"CORRECTED by {RADIOLOGIST}") < marked
        assert marked < place.index("AI PRELIMINARY - NOT A DIAGNOSIS")
    assert words(bundle(verdict=Verdict.CORRECTED))[0].endswith(said)


def test_a_confirmed_report_says_who_confirmed_it_before_what() -> None:
    for place in words(bundle(verdict=Verdict.CONFIRMED)):
        assert place.index(f"CONFIRMED by {RADIOLOGIST}") < place.index("AI PRELIMINARY")


def test_the_codes_of_the_ai_are_labelled_where_a_radiologist_leads() -> None:
    corrected = report(bundle(verdict=Verdict.CORRECTED))
    assert [each["code"] for each in corrected["meta"]["security"]] == [
        "AIAST",
        "PROCESSINLINELABEL",
    ]
    for concept in corrected["conclusionCode"]:
        assert concept["extension"][0]["valueCoding"]["code"] == "AIAST"


@pytest.mark.parametrize(
    ("verdict", "roles"),
    [(Verdict.CONFIRMED, ["verifier"]), (Verdict.CORRECTED, ["verifier", "author"])],
)
def test_the_sign_off_has_a_provenance_beside_that_of_the_ai(
    verdict: Verdict, roles: list[str]
) -> None:
    ai, human = of_type(bundle(verdict=verdict), "Provenance")
    assert ai == of_type(bundle(), "Provenance")[0]
    assert [each["type"]["coding"][0]["code"] for each in human["agent"]] == roles
    assert {each["who"]["display"] for each in human["agent"]} == {RADIOLOGIST}
    assert human["target"] == ai["target"]
    assert human["recorded"] == "2026-11-20T11:30:04.000+00:00"


def test_each_sign_off_has_a_provenance_of_its_own() -> None:
    first = context()
    made = [
        transaction_bundle(
            chest_study(),
            OUTCOMES["urgent"],
            context=replace(first, signed=sign_off(Verdict.CORRECTED, number=number)),
            overlay_jpeg=None,
        )
        for number in (1, 2)
    ]
    ids = [of_type(each, "Provenance")[1]["id"] for each in made]
    assert ids[0] != ids[1]


@pytest.mark.parametrize("name", ["not_analysed", "failed"])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_where_nothing_was_analysed_only_a_statement_can_be_final(
    name: str, verdict: Verdict
) -> None:
    made = {}
    for statement in ("", "No pneumothorax."):
        if verdict is Verdict.CORRECTED and not statement:
            continue
        signed = replace(context(), signed=sign_off(verdict, statement=statement))
        content = transaction_bundle(
            chest_study(), OUTCOMES[name], context=signed, overlay_jpeg=None
        )
        made[statement] = report(content)
        assert not of_type(content, "Observation")
        assert "NO AI RESULT" in made[statement]["conclusion"]
        assert profile_faults(content, [Profile.UK_CORE, Profile.AI_TRANSPARENCY]) == ()
    assert made["No pneumothorax."]["status"] in {"final", "amended"}
    assert made["No pneumothorax."]["conclusion"].startswith("No pneumothorax.")
    assert all(each["status"] == "registered" for said, each in made.items() if not said)


def test_a_correction_says_what_is_true() -> None:
    empty = replace(context(), signed=sign_off(Verdict.CORRECTED, statement=" "))
    with pytest.raises(InvalidMessage, match="what is true instead"):
        transaction_bundle(chest_study(), OUTCOMES["urgent"], context=empty, overlay_jpeg=None)


@settings(max_examples=40, deadline=None)
@given(
    st.text(max_size=60)
    | st.sampled_from(["<script>alert(1)</script>", "a\x00b", "&lt;", "\ud800x"])
)
def test_no_words_of_a_radiologist_break_the_report(statement: str) -> None:
    signed = sign_off(Verdict.CONFIRMED, statement=statement, radiologist=f"Dr {statement}x")
    made = transaction_bundle(
        chest_study(),
        OUTCOMES["urgent"],
        context=replace(context(), signed=signed),
        overlay_jpeg=None,
    )
    _, narrative, page = words(made)
    assert "<script" not in narrative + page


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_triage_only_site_gets_no_location_after_a_sign_off_either(
    verdict: Verdict | None,
) -> None:
    made = bundle(verdict=verdict, overlay=None, base=context(DisplayMode.TRIAGE_ONLY))
    assert not {each["resourceType"] for each in resources(made)} & {"Media", "Binary"}
    assert "media" not in report(made)
    assert b"salien" not in made.lower()
    assert "img" not in words(made)[2]


# --- recall


def published(name: str, verdict: Verdict | None = None) -> bytes:
    analysed = name in ANALYSED
    return bundle(name, verdict if analysed else None, overlay=JPEG if analysed else None)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_recall_takes_back_report_findings_and_picture(
    name: str, verdict: Verdict | None
) -> None:
    before = published(name, verdict)
    recalled = recalled_bundle(before, site=site(), recall=RECALL)
    *taken_back, provenance = resources(recalled)
    signed = verdict is not None and name in ANALYSED
    for each in taken_back:
        corrected = signed and each["resourceType"] == "DiagnosticReport"
        assert each["status"] == ("corrected" if corrected else "entered-in-error")
    wanted = {"DiagnosticReport", "Observation", "Media"}
    assert [each["id"] for each in taken_back] == [
        each["id"] for each in resources(before) if each["resourceType"] in wanted
    ]
    assert provenance["reason"] == [{"text": RECALL.reason}]
    assert len(provenance["target"]) == len(taken_back)
    assert provenance["id"] not in {each["id"] for each in resources(before)}
    assert profile_faults(recalled, [Profile.UK_CORE, Profile.AI_TRANSPARENCY]) == ()


def test_a_recall_names_the_model_whose_result_it_was() -> None:
    before = published("flagged")
    *_, provenance = resources(recalled_bundle(before, site=site(), recall=RECALL))
    device = of_type(before, "Device")[0]["id"]
    assert provenance["entity"] == [{"role": "source", "what": {"reference": f"Device/{device}"}}]
    assert provenance["agent"][0]["who"]["display"] == "Example Radiology Network"


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_recalled_report_says_first_that_it_is_withdrawn_and_why(
    verdict: Verdict | None,
) -> None:
    before = published("urgent", verdict)
    recalled = recalled_bundle(before, site=site(), recall=RECALL)
    for place in words(recalled):
        assert place.index("AI RESULT WITHDRAWN - DO NOT USE.") < place.index(RECALL.reason)
        assert place.index(RECALL.reason) < place.index("this report said:")
        assert ("What the radiologist said stands." in place) is (verdict is not None)
    assert words(recalled)[0].endswith(report(before)["conclusion"])


def test_a_recall_changes_nothing_else() -> None:
    before = published("urgent")
    after = recalled_bundle(before, site=site(), recall=RECALL)
    old = {each["id"]: each for each in resources(before)}
    for each in resources(after)[:-1]:
        differing = {name for name in each if each[name] != old[each["id"]][name]}
        said = {"issued", "text", "conclusion", "presentedForm"}
        allowed = {"status"} | (said if each["resourceType"] == "DiagnosticReport" else set())
        assert differing == allowed
        assert set(each) == set(old[each["id"]])


def test_the_same_recall_is_the_same_bytes() -> None:
    made = [recalled_bundle(published("urgent"), site=site(), recall=RECALL) for _ in range(2)]
    assert made[0] == made[1]


def test_what_is_taken_back_is_not_taken_back_again() -> None:
    recalled = recalled_bundle(published("urgent"), site=site(), recall=RECALL)
    with pytest.raises(InvalidMessage, match="not taken back yet"):
        recalled_bundle(recalled, site=site(), recall=RECALL)


@pytest.mark.parametrize(
    "value", [{"resourceType": "Bundle"}, {"resourceType": "Bundle", "entry": []}]
)
def test_a_recall_needs_the_bundle_that_was_published(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match="one DiagnosticReport"):
        recalled_bundle(json.dumps(value).encode(), site=site(), recall=RECALL)


def test_a_radiologists_report_whose_ai_was_withdrawn_is_not_withdrawn_again() -> None:
    recalled = recalled_bundle(published("urgent", Verdict.CORRECTED), site=site(), recall=RECALL)
    with pytest.raises(InvalidMessage, match="not taken back yet"):
        recalled_bundle(recalled, site=site(), recall=RECALL)


def test_a_recall_says_why() -> None:
    with pytest.raises(InvalidMessage, match="must say why"):
        recalled_bundle(published("urgent"), site=site(), recall=replace(RECALL, reason=" "))
