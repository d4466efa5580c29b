"""The engine on a real radiograph."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ai_engine.bundle import default_bundle_path
from ai_engine.engine import Engine
from ai_engine.image import Image
from ai_engine.result import TriageResult


def read(engine: Engine, rg1_image: Image) -> TriageResult:
    result = engine.read([rg1_image])
    assert isinstance(result, TriageResult)
    return result


def test_a_real_radiograph_is_read(engine: Engine, rg1_image: Image) -> None:
    result = read(engine, rg1_image)
    assert all(0.0 <= finding.probability <= 1.0 for finding in result.findings)
    assert [finding.label for finding in result.findings] == [s.label for s in result.saliency]
    assert result.model == engine.model


def test_every_map_lies_between_0_and_1_and_covers_the_image(
    engine: Engine, rg1_image: Image
) -> None:
    for saliency in read(engine, rg1_image).saliency:
        assert saliency.grid.dtype == np.float32
        assert saliency.grid.ndim == 2
        assert saliency.grid.min() >= 0.0
        assert saliency.grid.max() <= 1.0


def test_reading_twice_gives_the_same_numbers(engine: Engine, rg1_image: Image) -> None:
    first, second = read(engine, rg1_image), read(engine, rg1_image)
    assert first.findings == second.findings


def test_threads_that_read_at_once_get_their_own_numbers(engine: Engine, rg1_image: Image) -> None:
    mirrored = Image(
        np.ascontiguousarray(rg1_image.pixels[:, ::-1]), rg1_image.subject, rg1_image.view
    )
    alone = [read(engine, picture).findings for picture in (rg1_image, mirrored)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda p: read(engine, p).findings, [rg1_image, mirrored] * 8))
    assert together == alone * 8


def test_half_precision_agrees_with_the_reference(engine: Engine, rg1_image: Image) -> None:
    half = read(Engine.from_path(default_bundle_path(), precision="f16"), rg1_image)
    for one, other in zip(read(engine, rg1_image).findings, half.findings, strict=True):
        assert abs(one.probability - other.probability) < 0.05


def test_the_most_urgent_image_decides(engine: Engine, rg1_image: Image) -> None:
    alone = read(engine, rg1_image)
    mirrored = Image(
        np.ascontiguousarray(rg1_image.pixels[:, ::-1]), rg1_image.subject, rg1_image.view
    )
    both = engine.read([mirrored, rg1_image])
    assert isinstance(both, TriageResult)
    assert both.priority.rank <= alone.priority.rank


def test_serving_does_not_load_torch() -> None:
    script = (
        "import sys, cds_server.cli, cds_server.worker, smart_app.server; "
        "print('torch' in sys.modules, 'openvino' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert loaded.stdout.strip() == b"False False"
