"""``radcds train`` and ``radcds evaluate``, for data scientists; with the ``[torch]`` extra."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from ai_engine.bundle import load_bundle
from ai_engine.errors import AiEngineError, TrainingStopped
from ai_engine.publishers import Publishers
from cds_server.config import Settings
from cds_server.dicom_pixel_reader import DicomPixelReader
from cds_server.errors import InvalidSettings

_STOPPED, _REFUSED = 1, 3

Configuration = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Training configuration, a TOML file.")
]
Data = Annotated[Path, typer.Option(help="Folder that the paths of the configuration are below.")]


def train(
    configuration: Configuration,
    out: Annotated[Path, typer.Option(help="Folder of the run: new, or to go on with.")],
    data: Data = Path(),
) -> None:
    """Train a model by a configuration. The same command again goes on where it was stopped."""
    with _refusals():
        from ai_engine.training.configuration_file import read_configuration
        from ai_engine.training.training_run import train as trained_by

        wanted = read_configuration(configuration)
        trained = trained_by(
            wanted,
            out,
            data=data,
            reader=DicomPixelReader(),
            given=configuration.read_text(encoding="utf-8"),
        )
        typer.echo(f"{trained.architecture}, findings {', '.join(trained.findings)}")
        if trained.mean_auroc is not None:
            typer.echo(f"mean AUROC on validation images {trained.mean_auroc:.3f}")
        typer.echo(f"weights: {trained.weights}")


def evaluate(  # noqa: PLR0913, PLR0917 - each is an option
    bundle: Annotated[Path, typer.Argument(help="Folder of a model bundle.")],
    configuration: Configuration,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")],
    data: Data = Path(),
    images: Annotated[str, typer.Option("--set", help="Set of the configuration.")] = "",
    source: Annotated[str, typer.Option(help="Collection within the set.")] = "",
    labels_from: Annotated[
        str, typer.Option(help="Where the labels come from, in words, for the report.")
    ] = "the labels of the set",
    maps: Annotated[int, typer.Option(min=0, help="Images whose saliency maps are judged.")] = 12,
) -> None:
    """Judge a model on the images that the split of a set holds out."""
    with _refusals() as settings:
        from ai_engine.bundle_evaluation import Judging, evaluate_bundle
        from ai_engine.evaluation.written_report import write_report
        from ai_engine.training.configuration_file import read_configuration
        from ai_engine.training.image_sets import open_set

        model = load_bundle(bundle, Publishers.trusted(settings.model_publishers))
        wanted = read_configuration(configuration)
        chosen = [each for each in wanted.sets if each.name == (images or wanted.sets[-1].name)]
        if not chosen:
            msg = f"{configuration} has no set {images!r}; it has " + ", ".join(
                each.name for each in wanted.sets
            )
            raise InvalidSettings(msg)
        with Progress(console=Console(stderr=True)) as progress:
            report, examples = evaluate_bundle(
                model,
                open_set(chosen[0], data, DicomPixelReader()),
                Judging(source, labels_from, maps),
                progress,
            )
            _, page = write_report(report, out, examples=examples, progress=progress)
        typer.echo(f"the report is {page}")


@contextmanager
def _refusals() -> Iterator[Settings]:
    """Turn what is refused into one line and an exit code; never a traceback."""
    try:
        yield Settings.from_environment()
    except TrainingStopped as error:
        _say(str(error))
        raise typer.Exit(_STOPPED) from error
    except (AiEngineError, InvalidSettings) as error:
        _say(str(error))
        raise typer.Exit(_REFUSED) from error
    except ModuleNotFoundError as error:
        _say(f"{error.name} is not installed; training needs: pip install 'radcds[torch]'")
        raise typer.Exit(_REFUSED) from error


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
