"""What a training run is to do: every choice that changes its result, and some that do not.

The descriptions here are those of ``docs/reference/training-configuration.md``.
"""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Architecture = Literal[
    "efficientnet-lite0", "efficientnet-b0", "efficientnet-b1", "efficientnet-b2",
    "efficientnet-b3", "efficientnet-b4", "efficientnet-b5", "efficientnet-b6", "efficientnet-b7",
    "densenet121",
]  # fmt: skip
Start = Literal["imagenet", "chexnet", "random"]
Sampling = Literal["shuffled", "weighted", "balanced"]
Overlap = Literal["refuse", "leave_out"]
ViewName = Literal["PA", "AP", "LATERAL", "OTHER", "UNKNOWN"]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]

_CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _said(text: str) -> object:
    """Describe a key."""
    return Field(description=text)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Shares:
    """Shares of the persons of one source."""

    validation: Annotated[Share, _said("Share of the persons to validate on, 0 to 1")] = 0.1
    test: Annotated[Share, _said("Share of the persons held out, never trained on")] = 0.0

    def __post_init__(self) -> None:
        """Leave something to train on.

        Raises
        ------
        ValueError
            If nothing is left.
        """
        if self.validation + self.test >= 1.0:
            msg = "validation and test together leave nobody to train on; lower one"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class SplitConfiguration:
    """Who is trained on, validated on and held out. A person is in one part."""

    official: Annotated[
        bool, _said("Hold out what the set's makers hold out, and cut validation from the rest")
    ] = False
    validation: Annotated[Share, _said("Share of the persons to validate on, 0 to 1")] = 0.1
    test: Annotated[
        Share, _said("Share of the persons held out, never trained on; 0 with `official`")
    ] = 0.0
    of_source: Annotated[
        dict[str, Shares],
        _said(
            "Other shares for the persons of a source, by its name: a table with `validation` and "
            "`test`. Their held-out images of other sources are used for nothing"
        ),
    ] = field(default_factory=dict)
    shared_persons: Annotated[
        Overlap,
        _said(
            "When the official parts share persons: `refuse`, or `leave_out` their images of the "
            "part to train on"
        ),
    ] = "refuse"

    def __post_init__(self) -> None:
        """Leave something to train on, and have one rule for what is held out.

        Raises
        ------
        ValueError
            If that is not so.
        """
        if self.validation + self.test >= 1.0:
            msg = "validation and test together leave nobody to train on; lower one"
            raise ValueError(msg)
        if self.official and (self.test or self.of_source):
            msg = "official decides what is held out; remove test and of_source, or official"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class _AnySet:
    name: Annotated[Name, _said("By which stages call the set")]
    views: Annotated[
        tuple[ViewName, ...], _said("Use only images of these views; all without it")
    ] = ()
    split: Annotated[SplitConfiguration, _said("Table of its split, below")] = field(
        default_factory=SplitConfiguration
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class NihSet(_AnySet):
    """NIH ChestX-ray14, or a part of it."""

    layout: Annotated[Literal["nih"], _said("`nih`")]
    labels: Annotated[Path, _said("`Data_Entry_2017` CSV, plain or `.gz`, or one of its columns")]
    images: Annotated[tuple[Path, ...], _said("Folders and zips with the images")]
    training_list: Annotated[
        Path | None, _said("`train_val_list.txt`, plain or `.gz`: the official split")
    ] = None
    skip_missing: Annotated[bool, _said("Leave out labelled images that are not there")] = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class KermanySet(_AnySet):
    """Kermany's radiographs of children."""

    layout: Annotated[Literal["kermany"], _said("`kermany`")]
    images: Annotated[tuple[Path, ...], _said("The unpacked folder, or folders and zips")]
    labels: Annotated[
        Path | None, _said("CSV with `file`, `pneumonia`, `pid`, `official_test`; else the folders")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class TableSet(_AnySet):
    """PNG, JPEG or NumPy files with a CSV file."""

    layout: Annotated[Literal["table", "dicom_table"], _said("`table`, or `dicom_table` of DICOM")]
    labels: Annotated[Path, _said("CSV: one line an image, one column a finding")]
    images: Annotated[tuple[Path, ...], _said("Folders and, for `table`, zips with the images")]
    skip_missing: Annotated[bool, _said("Leave out listed images that are not there")] = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class FhirSet(_AnySet):
    """DICOM files that FHIR resources label."""

    layout: Annotated[Literal["fhir"], _said("`fhir`")]
    resources: Annotated[
        tuple[Path, ...],
        _said("Files of Observation, DiagnosticReport, ImagingStudy; NDJSON, JSON"),
    ]
    images: Annotated[Path, _said("Folder of DICOM files")]
    codes: Annotated[dict[str, Name], _said("The finding that each `system|code` means")]
    complete_reports: Annotated[
        bool, _said("What a coded, final report does not conclude is absent, not unjudged")
    ] = False


SetConfiguration = Annotated[
    NihSet | KermanySet | TableSet | FhirSet, Field(discriminator="layout")
]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class NetworkConfiguration:
    """The network and the weights that it starts from."""

    architecture: Annotated[Architecture, _said("Which network")]
    start: Annotated[
        Start,
        _said("`imagenet`; `chexnet`, a public checkpoint, for `densenet121`; or `random`"),
    ] = "imagenet"
    weights: Annotated[
        Path | None,
        _said("File of those weights; Lite0's ImageNet weights come with the package"),
    ] = None
    mean: Annotated[float, _said("Pixel value, of 0 to 1, that becomes 0")] = 0.5
    std: Annotated[Positive, _said("Pixel values, of 0 to 1, that become 1")] = 0.25

    def __post_init__(self) -> None:
        """Have a file where one is needed.

        Raises
        ------
        ValueError
            If there is none, or one too many.
        """
        carried = self.start == "random" or self.architecture == "efficientnet-lite0"
        if self.weights is None and not carried:
            msg = f"start = {self.start!r} needs the file of the weights; set weights"
            raise ValueError(msg)
        if self.start == "random" and self.weights is not None:
            msg = "start = 'random' reads no weights; remove weights or change start"
            raise ValueError(msg)
        if self.start == "chexnet" and self.architecture != "densenet121":
            msg = (
                "CheXNet is a DenseNet-121: its weights fit no other network. Use it as the "
                "teacher of a stage, or set architecture = 'densenet121'"
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Augmentation:
    """How training images are varied. Never mirrored head to foot."""

    rotation_degrees: Annotated[float, Field(ge=0, le=45), _said("Largest rotation")] = 10.0
    magnification_low: Annotated[float, Field(ge=0.5, le=1), _said("Smallest size, of 1")] = 0.9
    magnification_high: Annotated[float, Field(ge=1, le=2), _said("Largest size, of 1")] = 1.15
    shift: Annotated[
        float, Field(ge=0, le=0.5), _said("Largest shift, as a share of rows and of columns")
    ] = 0.08
    gamma_low: Annotated[float, Field(gt=0, le=1), _said("Smallest gamma")] = 0.8
    gamma_high: Annotated[float, Field(ge=1, le=5), _said("Largest gamma")] = 1.25
    contrast: Annotated[
        float, Field(ge=0, lt=1), _said("Largest change of contrast, as a share")
    ] = 0.2
    brightness: Annotated[
        float, Field(ge=0, le=2), _said("Largest change of brightness, in units of `network.std`")
    ] = 0.3
    horizontal_flip: Annotated[
        bool, _said("Mirror half of the images left to right; wrong where sides matter")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Teacher:
    """A network whose probabilities are learnt beside the labels (distillation)."""

    probabilities: Annotated[
        Path, _said("CSV, plain or `.gz`: a column of images, and one for each finding, 0 to 1")
    ]
    image_column: Annotated[str, _said("Column of the images; matched without suffix")] = (
        "Image Index"
    )
    prefix: Annotated[str, _said("What stands before the finding in a column's name")] = "prob_"
    weight: Annotated[
        float, Field(gt=0, le=1), _said("Share of the loss, where the teacher has an opinion")
    ] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Stage:
    """One training: from the weights of the stage before it, with a head of its own."""

    name: Annotated[Name, _said("Of the stage; its folder in the run")]
    sets: Annotated[tuple[str, ...], Field(min_length=1), _said("Names of the sets trained on")]
    findings: Annotated[
        tuple[Name, ...], Field(min_length=1), _said("What the head tells, in this order")
    ]
    least_positives: Annotated[
        int,
        Field(ge=0),
        _said("Findings with fewer positive images to train on are left out; 0 refuses such a run"),
    ] = 0
    rows: Annotated[int, Field(ge=32, le=2048), _said("Rows of the input, in pixels")]
    columns: Annotated[int, Field(ge=32, le=2048), _said("Columns of the input, in pixels")]
    epochs: Annotated[int, Field(ge=1, le=10000), _said("Passes over the images")]
    batch: Annotated[int, Field(ge=1), _said("Images that a device takes at once")]
    accumulation: Annotated[
        int,
        Field(ge=1),
        _said(
            "Batches whose gradients are added up for one step. A step takes `batch` x "
            "`accumulation` images, over all processes: it is divided among them"
        ),
    ] = 1
    head_rate: Annotated[Positive, _said("Highest learning rate of the head (AdamW)")] = 3e-4
    body_rate: Annotated[Positive, _said("Highest learning rate of the last layer below it")] = 1e-4
    layer_decay: Annotated[
        float,
        Field(gt=0, le=1),
        _said(
            "Each layer's rate, of that of the layer above it; never below a tenth of the body's"
        ),
    ] = 1.0
    weight_decay: Annotated[float, Field(ge=0), _said("Of AdamW; none on biases and norms")] = 0.02
    warmup: Annotated[Share, _said("Share of the steps in which rates rise; then a cosine")] = 0.1
    clip_norm: Annotated[Positive, _said("Longest gradient; longer ones are shortened")] = 1.0
    average_decay: Annotated[
        Share,
        _said(
            "Of the moving average of weights (EMA), after its first steps; 0 for none. The "
            "averaged weights are validated and kept"
        ),
    ] = 0.0
    positive_weight_cap: Annotated[
        float, Field(ge=1), _said("Most that a present finding weighs; 1 weighs none")
    ] = 10.0
    sampling: Annotated[
        Sampling,
        _said("`shuffled`; `weighted` by source; or `balanced`: each source is drawn as often"),
    ] = "shuffled"
    source_weights: Annotated[
        dict[str, Positive],
        _said("How often an image of a source is drawn, by its name, others are 1; for `weighted`"),
    ] = field(default_factory=dict)
    keep: Annotated[
        Literal["best", "last"],
        _said("Which weights go on: of the `best` epoch by mean validation AUROC, or the `last`"),
    ] = "best"
    augmentation: Annotated[Augmentation, _said("Table of variations, below")] = field(
        default_factory=Augmentation
    )
    teacher: Annotated[Teacher | None, _said("Table of a teacher, below; none by default")] = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises
        ------
        ValueError
            If something does.
        """
        for what, names in (("finding", self.findings), ("set", self.sets)):
            if len(set(names)) < len(names):
                msg = f"a {what} is named twice; remove one"
                raise ValueError(msg)
        if self.source_weights and self.sampling != "weighted":
            msg = "source_weights are for sampling = 'weighted'; set it or remove them"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Hardware:
    """How fast and where; a run may go on with other values."""

    device: Annotated[
        Literal["auto", "cpu", "cuda"], _said("`auto` takes a CUDA device where there is one")
    ] = "auto"
    workers: Annotated[
        int, Field(ge=0, le=256), _said("Processes that prepare images; 0 for none beside the main")
    ] = 0
    threads: Annotated[
        int, Field(ge=0, le=1024), _said("Threads of torch; 0 leaves its choice")
    ] = 0
    memory_gb: Annotated[
        Positive,
        _said("Prepared images beyond this go to `cache` on disk instead of memory, in 10^9 bytes"),
    ] = 4.0
    cache: Annotated[
        Path | None,
        _said(
            "Folder for prepared images, `cache` in the run by default; empty it if images change"
        ),
    ] = None
    channels_last: Annotated[bool, _said("Memory layout that most devices convolve faster in")] = (
        True
    )
    checkpoint_steps: Annotated[
        int, Field(ge=1), _said("Steps between two checkpoints; each epoch ends with one too")
    ] = 200


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Configuration:
    """A whole run."""

    name: Annotated[Name, _said("Of the model")]
    seed: Annotated[int, Field(ge=0, lt=2**63), _said("Of every random choice")] = 1
    deterministic: Annotated[
        bool, _said("Only algorithms that give the same bits each time; slower on a GPU")
    ] = False
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], _said("Of the forward pass (AMP)")
    ] = "bfloat16"
    network: Annotated[NetworkConfiguration, _said("Table, below")]
    sets: Annotated[
        tuple[SetConfiguration, ...], Field(min_length=1), _said("Tables `[[sets]]`, below")
    ]
    stages: Annotated[
        tuple[Stage, ...], Field(min_length=1), _said("Tables `[[stages]]`, below, in their order")
    ]
    hardware: Annotated[Hardware, _said("Table, below")] = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        """Refuse names that lead nowhere.

        Raises
        ------
        ValueError
            If a name is there twice, or a stage names a set that is not.
        """
        for what, names in (
            ("set", [each.name for each in self.sets]),
            ("stage", [each.name for each in self.stages]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                msg = f"two {what}s have the name {min(twice)!r}; rename one"
                raise ValueError(msg)
        there = {each.name for each in self.sets}
        for stage in self.stages:
            if unknown := set(stage.sets) - there:
                msg = f"stage {stage.name!r} names the set {min(unknown)!r}, and there is none such"
                raise ValueError(msg)
