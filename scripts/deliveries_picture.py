"""Make the picture of results that do not arrive: ``python scripts/deliveries_picture.py``.

A server reads an image and delivers the result to a folder, to a RIS that refuses it, and to a
registry that is away. Needs the development environment (``make test`` installs it) and Chromium.
"""

import shutil
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from shutil import which

from playwright.sync_api import Page, sync_playwright
from pydicom.data import get_testdata_file

from cds_server.config import Settings
from cds_server.serve import local_sign_in, processes

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "deliveries.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
HOST = "127.0.0.1"
SAMPLE = "RG1_UNCR.dcm"
READ_AND_SENT_S = 20.0


def main() -> None:
    """Run the server, let it try for a while, and photograph the page."""
    web, ris, registry = _free_ports(3)
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder), web, ris, registry)
        listen = ["-m", "cds_server.cli", "hl7", "listen", "--port", str(ris), "--answer", "AR"]
        receiver = {"RIS": [*listen, "--out", f"{folder}/received"]}
        with (
            local_sign_in(settings, HOST) as token,
            processes(settings, host=HOST, port=web, beside=receiver),
            sync_playwright() as playwright,
        ):
            time.sleep(READ_AND_SENT_S)
            browser = playwright.chromium.launch(executable_path=which("chromium"), args=FLAGS)
            _photograph(browser.new_page(viewport={"width": 1280, "height": 720}), web, token)
            browser.close()


def _settings(folder: Path, web: int, ris: int, registry: int) -> Settings:
    archive = folder / "archive"
    archive.mkdir()
    shutil.copy(str(get_testdata_file(SAMPLE, download=False)), archive)
    receivers = folder / "destinations.toml"
    receivers.write_text(
        f'[[hl7]]\nname = "ris"\naddress = "{HOST}:{ris}"\n'
        f'[[hl7]]\nname = "registry"\naddress = "{HOST}:{registry}"\n',
        encoding="utf-8",
    )
    return replace(
        Settings(),
        data_dir=folder / "data",
        archive=str(archive),
        output=folder / "out",
        destinations=receivers,
        base_url=f"http://{HOST}:{web}",
    )


def _photograph(page: Page, web: int, token: str) -> None:
    page.goto(f"http://{HOST}:{web}/sign-in")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in with the token").click()
    page.get_by_role("link", name="Operations").click()
    page.wait_for_selector("#deliveries")
    page.screenshot(path=PICTURE, full_page=True)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    main()
