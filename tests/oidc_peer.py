"""Start the authorisation server of somebody else: npm ``oidc-provider``."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from judges import _MODULES

_PEER = Path(__file__).parent / "contract" / "peers" / "oidc_provider.js"


@contextmanager
def oidc_provider(**asked: object) -> Iterator[str]:
    """Give its issuer; ``oidc_provider.js`` says what may be asked."""
    assert _MODULES.is_dir(), "the peers are not installed: run scripts/install_judges.sh"
    with subprocess.Popen(
        ["node", _PEER, _MODULES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        assert started.stdin
        assert started.stdout
        started.stdin.write(json.dumps(asked) + "\n")
        started.stdin.flush()
        line = started.stdout.readline()
        assert line, "the peer did not start: run scripts/install_judges.sh"
        yield str(json.loads(line)["issuer"])
        started.stdin.close()
        assert started.wait(10) == 0
