"""A crash in the middle of reading is told to everyone as a failure, and never waits for ever."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import sample

CRASH = """
import sys, time
from pathlib import Path
from ai_engine.engine import Engine
from cds_server import bootstrap, model_in_use
from cds_server.batch import batch_settings
from cds_server.config import Settings
from cds_server.delivery import Patience
from cds_server.durable import running
from cds_server.ports import StudyState

class Crashing:
    def __init__(self, engine):
        self.model, self.model_card = engine.model, engine.model_card
        self.modalities = engine.modalities
    def read(self, images):
        raise ZeroDivisionError("a defect that nobody foresaw")

out = Path(sys.argv[2])
settings = batch_settings(Settings(), out)
services = bootstrap.services(settings)
archive = bootstrap.folder_archive([Path(sys.argv[1])])
triage = bootstrap.triage(
    services,
    archive=archive,
    reader=Crashing(model_in_use.reader(settings)),
    destinations=bootstrap.destinations(services),
    patience=Patience((0.1,), strikes=1),
)
with running(triage, settings.data_dir / "workflow.sqlite"):
    result_id = triage.notice(archive.arrivals()[0].study_instance_uid)
    deadline = time.monotonic() + 40
    while services.store.entry(result_id).state is not StudyState.PUBLISHED:
        triage.explain_failures()
        assert time.monotonic() < deadline, services.store.entry(result_id)
        time.sleep(0.1)
"""


def test_a_crash_is_published_as_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", CRASH, sample("RG1_UNCR.dcm"), out],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in out.iterdir() if path.name != ".radcds")
    card = json.loads((folder / "card.json").read_text())["cards"][0]
    assert "AI PROCESSING FAILED" in card["summary"]
    assert card["indicator"] == "warning"
    assert "PROCESSING_FAILED" in (folder / "oru.hl7").read_text()
    outcomes = [
        json.loads(line)["outcome"] for line in (folder / "audit.ndjson").read_text().splitlines()
    ]
    assert "8" in outcomes
    assert "ZeroDivisionError" not in done.stdout
