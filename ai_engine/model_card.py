"""What a model card must say before its model is run."""

from collections.abc import Mapping

from ai_engine.errors import ModelUnavailable

SOURCE_ATTRIBUTES = {
    "developer": "(1)(i) name and contact of the developer",
    "funding": "(1)(ii) who paid for the development",
    "output": "(1)(iii) value that the model gives",
    "output_type": "(1)(iv) prediction, classification, recommendation, evaluation or analysis",
    "intended_use": "(2)(i) what it is for",
    "intended_patients": "(2)(ii) whose images it may read",
    "intended_users": "(2)(iii) who may use its output",
    "decision_making_role": "(2)(iv) informs, augments or replaces clinical management",
    "cautioned_use": "(3)(i) tasks, situations and people it is not for",
    "known_risks": "(3)(ii) risks, unsuitable settings and limitations",
    "training_inclusion": "(4)(i) what was put into and left out of the training data",
    "input_variables": "(4)(ii) which personal variables it takes as input",
    "training_demographics": "(4)(iii) whom the training data represents",
    "training_relevance": "(4)(iv) how far the training data is like where it is used",
    "fairness_approach": "(5)(i) how its output was made fair",
    "bias_management": "(5)(ii) how bias was reduced",
    "external_data": "(6)(i) data other than that of training and testing",
    "external_tester": "(6)(ii) who tested on it",
    "external_demographics": "(6)(iii) whom that data represents",
    "external_process": "(6)(iv) how it was tested",
    "validity_in_test_data": "(7)(i) figures on data of the same source",
    "fairness_in_test_data": "(7)(ii) figures by group on data of the same source",
    "validity_in_external_data": "(7)(iii) figures on other data",
    "fairness_in_external_data": "(7)(iv) figures by group on other data",
    "outcome_evaluations": "(7)(v) studies of what its use changes for patients",
    "validity_monitoring": "(8)(i) how and how often its validity is watched in use",
    "local_validity": "(8)(ii) figures where it is used",
    "fairness_monitoring": "(8)(iii) how and how often its fairness is watched in use",
    "local_fairness": "(8)(iv) figures by group where it is used",
    "update_process": "(9)(i) how and how often it is updated",
    "correction_schedule": "(9)(ii) how soon it is corrected once a risk is known",
}
"""Key on the card → the source attribute of a predictive decision support intervention.

References
----------
45 CFR 170.315(b)(11)(iv)(B) (HTI-1): 31 attributes.
"""

_FIELDS = ("status", "intended_use", "limits", "licence")


def check_model_card(card: Mapping[str, object]) -> None:
    """Refuse a card that leaves out what a governance board must be told.

    Parameters
    ----------
    card
        ``model_card.json``. What is not known stands there as a sentence that says so.

    Raises
    ------
    ModelUnavailable
        If a source attribute, the attribution of the data or another entry is missing or empty;
        it names every one of them.
    """
    said = card.get("source_attributes")
    attributes = said if isinstance(said, Mapping) else {}
    missing = [name for name in _FIELDS if not card.get(name)]
    missing += [
        f"source_attributes.{name}"
        for name in SOURCE_ATTRIBUTES
        if not str(attributes.get(name) or "").strip()
    ]
    missing += _missing_attributions(card.get("data"))
    if missing:
        msg = f"the model card does not say: {', '.join(missing)}. Complete model_card.json"
        raise ModelUnavailable(msg)


def _missing_attributions(data: object) -> list[str]:
    """Name what the attribution of each data set lacks: what it is, and under what licence."""
    if not isinstance(data, list) or not data:
        return ["data"]
    return [
        f"data[{number}].{name}"
        for number, each in enumerate(data)
        for name in ("what", "licence")
        if not (isinstance(each, Mapping) and each.get(name))
    ]
