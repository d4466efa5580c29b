"""``radcds models list | show | verify | export | install``: the models of this server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ai_engine.bundle import Bundle, bundles_that_ship, default_bundle_path, load_bundle
from ai_engine.bundle_archive import export_bundle, install_bundle
from ai_engine.errors import ModelFailed, ModelUnavailable
from ai_engine.inference import prove
from ai_engine.inference_process import InferenceProcess
from ai_engine.publishers import Publishers
from cds_server.config import Settings
from cds_server.errors import InvalidSettings
from fhir_mappers.model_card import model_card_markdown

_UNUSABLE, _REFUSED = 1, 3
_SHORT = 16

models = typer.Typer(help="Models: which there are, and what they can do.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Model = Annotated[
    str,
    typer.Argument(help="NAME-VERSION, or the folder of a bundle; without it, the one in use."),
]


@models.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the models that ship and those installed, each verified; exit with 1 if one is not."""
    with _refusals() as settings:
        publishers = Publishers.trusted(settings.model_publishers)
        in_use = settings.model or default_bundle_path()
        there = [_there(folder, publishers) for folder in _folders(settings)]
        if as_json:
            rows = [asdict(each) | {"in_use": each.folder == str(in_use)} for each in there]
            typer.echo(json.dumps(rows, indent=2))
        else:
            table = Table("", "model", "findings", "signed by", "sha256", "folder")
            for each in there:
                mark = "in use" if each.folder == str(in_use) else ""
                findings = each.unusable or ", ".join(each.findings)
                known = (each.model, findings, each.publisher, each.sha256[:_SHORT], each.folder)
                table.add_row(mark, *known)
            Console(highlight=False, soft_wrap=True, markup=False).print(table)
    if any(each.unusable for each in there):
        raise typer.Exit(_UNUSABLE)


@models.command()
def show(model: Model = "", as_json: AsJson = False) -> None:
    """Print the model card."""
    with _refusals() as settings:
        bundle = _loaded(model, settings)
        if as_json:
            typer.echo(json.dumps(bundle.card, indent=2, ensure_ascii=False))
        else:
            title = f"{bundle.identity.name} {bundle.identity.version}"
            typer.echo(model_card_markdown(title, bundle.card), nl=False)


@models.command()
def verify(model: Model = "") -> None:
    """Check signature, every file and the card, and run the network once."""
    with _refusals() as settings:
        bundle = _loaded(model, settings)
        with TemporaryDirectory() as folder:
            process = InferenceProcess(bundle, Path(folder), precision=settings.precision.value)
            try:
                prove(process, bundle.input_spec)
            except ModelFailed as error:
                msg = f"model {bundle.identity.name}: {error}"
                raise ModelUnavailable(msg) from error
            finally:
                process.close()
        for line in (
            f"{bundle.identity.name} {bundle.identity.version}, sha256 {bundle.identity.sha256}",
            f"signed by {bundle.publisher}; every file is as signed",
            "the card says all that it must",
            "the network runs, and its maps add up to its logits",
        ):
            typer.echo(line)


@models.command()
def export(
    model: Annotated[str, typer.Argument(help="NAME-VERSION, or the folder of a bundle.")],
    file: Annotated[Path, typer.Argument(help="Zip file to write.")],
) -> None:
    """Write a model as one file, to carry it to another machine."""
    with _refusals() as settings:
        publishers = Publishers.trusted(settings.model_publishers)
        bundle = export_bundle(_folder(model, settings), file, publishers)
        typer.echo(f"{bundle.identity.name} {bundle.identity.version} is in {file}")


@models.command()
def install(
    source: Annotated[Path, typer.Argument(help="A file of `models export`, or a folder.")],
) -> None:
    """Verify a model and install it. It is used once RADCDS_MODEL names it."""
    with _refusals() as settings:
        publishers = Publishers.trusted(settings.model_publishers)
        bundle, place = install_bundle(source, _installed(settings), publishers)
        typer.echo(f"{bundle.identity.name} {bundle.identity.version} is installed")
        typer.echo(f"To use it, start with RADCDS_MODEL={place}")


@dataclass(frozen=True, slots=True)
class _There:
    """One line of the list; ``unusable`` says why a bundle is not run."""

    model: str
    folder: str
    unusable: str = ""
    findings: tuple[str, ...] = ()
    publisher: str = ""
    sha256: str = ""


def _there(folder: Path, publishers: Publishers) -> _There:
    try:
        bundle = load_bundle(folder, publishers)
    except ModelUnavailable as error:
        return _There(folder.name, str(folder), unusable=str(error))
    model = bundle.identity
    return _There(
        f"{model.name}-{model.version}",
        str(folder),
        findings=bundle.findings,
        publisher=bundle.publisher,
        sha256=model.sha256,
    )


def _installed(settings: Settings) -> Path:
    return settings.data_dir / "models"


def _folders(settings: Settings) -> list[Path]:
    """Give the folder of every model that there is, the one in use first."""
    installed = _installed(settings)
    there = sorted(installed.iterdir()) if installed.is_dir() else []
    every = [settings.model or default_bundle_path(), *bundles_that_ship(), *there]
    return list(dict.fromkeys(every))


def _folder(model: str, settings: Settings) -> Path:
    """Find a model by its name and version, or by its folder.

    Raises
    ------
    ModelUnavailable
        If there is none.
    """
    if not model:
        return settings.model or default_bundle_path()
    for folder in _folders(settings):
        if folder.name == model:
            return folder
    if Path(model).is_dir():
        return Path(model)
    msg = f"there is no model {model!r}; `radcds models list` shows those that there are"
    raise ModelUnavailable(msg)


def _loaded(model: str, settings: Settings) -> Bundle:
    return load_bundle(_folder(model, settings), Publishers.trusted(settings.model_publishers))


@contextmanager
def _refusals() -> Iterator[Settings]:
    """Turn what is refused into one line and an exit code; never a traceback."""
    try:
        yield Settings.from_environment()
    except (InvalidSettings, ModelUnavailable) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
        raise typer.Exit(_REFUSED) from error
