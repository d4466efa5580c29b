"""Speed, memory and size of one study: ``make bench`` prints the table of docs/benchmarks.md."""

import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.engine import Engine
from ai_engine.preprocess import network_input
from ai_engine.result import TriageResult
from cds_server.adapters.system_clock import SystemClock
from cds_server.config import Settings
from fhir_mappers.dicom_study import study_of
from fhir_mappers.identifiers import result_id
from fhir_mappers.pixels import image
from fhir_mappers.report_context import ReportContext
from fhir_mappers.report_set import report_set

RUNS = 9
PATH = Path(str(get_testdata_file("RG1_UNCR.dcm", download=False)))


def milliseconds(run: Callable[[], object]) -> tuple[float, float]:
    """Give the median and the maximum of several runs after one that does not count."""
    run()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times), max(times)


def peer() -> tuple[float, float]:
    """Time torch with pytorch-grad-cam on the same network and image, one finding."""
    import torch  # noqa: PLC0415 - the peer alone needs it
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415

    from ai_engine.networks import EfficientNetLite0  # noqa: PLC0415

    torch.set_num_threads(2)
    bundle = load_bundle(default_bundle_path())
    network = EfficientNetLite0(len(bundle.findings)).eval()

    class LogitsOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images)[0]

    inputs = torch.from_numpy(network_input(np.ones((512, 512), np.float32), bundle.input_spec))
    cam = GradCAM(model=LogitsOnly(), target_layers=[network.backbone.bn2])
    return milliseconds(lambda: cam(inputs, [ClassifierOutputTarget(0)]))


def whole_command() -> tuple[float, float]:
    """Give seconds and peak MB of ``radcds read`` as a process, model load included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "cds_server.cli", "read", PATH, "--out", f"{folder}/out"]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def import_seconds() -> float:
    """Give the time to import the server in a fresh interpreter, less the interpreter itself."""

    def fresh(code: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    return fresh("import cds_server.cli") - fresh("pass")


def main() -> None:
    """Measure and print."""
    seconds, peak_mb = whole_command()
    imported = import_seconds()
    engine = Engine.from_path(default_bundle_path())
    dataset = pydicom.dcmread(PATH)
    picture = image(dataset)
    outcome = engine.read([picture])
    assert isinstance(outcome, TriageResult)
    study = study_of(
        [dataset.to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=str)], timezone="UTC"
    )
    context = ReportContext(
        result_id(study.study_instance_uid, engine.model.sha256),
        Settings().site,
        engine.model,
        SystemClock().now(),
        "0",
        engine.model_card,
    )

    def decode() -> object:
        return image(pydicom.dcmread(PATH))

    def report() -> object:
        return report_set(study, outcome, context=context, source=dataset, image=picture)

    def total() -> object:
        source = pydicom.dcmread(PATH)
        shown = image(source)
        return report_set(study, engine.read([shown]), context=context, source=source, image=shown)

    steps = {
        "read file, decode, VOI": decode,
        "preprocess, infer, every saliency map": lambda: engine.read([picture]),
        "report set (bundle, ORU, card, PNG, JPEG, DICOM)": report,
        "total, warm": total,
    }
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}\n")
    print("| RG1, 1955 x 1841 | median ms | worst ms |\n|---|---|---|")
    for name, run in steps.items():
        print("| {} | {:.0f} | {:.0f} |".format(name, *milliseconds(run)))
    print("| peer: torch + pytorch-grad-cam, one map | {:.0f} | {:.0f} |".format(*peer()))
    print(f"\n`radcds read`, whole process: {seconds:.1f} s, peak {peak_mb:.0f} MB")
    print(f"import of cds_server: {imported:.2f} s")


if __name__ == "__main__":
    main()
