"""Ask the judges of ``tests/contract/judges``."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_MODULES = _HERE.parent / ".cache" / "judges" / "node_modules"


def ask(judged_format: str, content: bytes) -> dict[str, Any]:
    """Give the verdict of the npm judges on a FHIR resource or an HL7 message."""
    assert _MODULES.is_dir(), "the judges are not installed: run scripts/install_judges.sh"
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        script = _HERE / "contract" / "judges" / "judge.js"
        asked = subprocess.run(
            ["node", script, _MODULES, judged_format, file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    verdict: dict[str, Any] = json.loads(asked.stdout)
    return verdict
