"""Write what radcds conforms to, from its own code: ``python -m scripts.conformance [--check]``.

With ``--check`` nothing is written; the exit code is 1 where a file differs.
"""

import csv
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import orjson

from cds_server.app import RELEASE_DATE
from cds_server.hooks.services import SERVICES
from cds_server.network import Network, SystemActions, TokenIssuer
from cds_server.web.fhir_api import capability_statement, own_smart_configuration
from fhir_mappers.fhir_json import emitted
from scripts.made_pages import ROOT, write_or_compare
from smart_app.routes import ROUTES

FOLDER = Path("docs/conformance")
REQUIREMENTS = FOLDER / "requirements.toml"
BASE_URL = "https://radcds.example.org"
ISSUER = "https://login.example.org"
NETWORK = Network(
    token_issuers=(
        TokenIssuer(
            ISSUER,
            f"{BASE_URL}/fhir",
            jwks_url=f"{ISSUER}/jwks.json",
            token_endpoint=f"{ISSUER}/token",
        ),
    )
)
STANDARDS: Mapping[str, str] = {
    "cds-hooks_2.0": "CDS Hooks 2.0, service",
    "cds-hooks-library_1.0.1": "CDS Hooks library 1.0.1, service",
    "hl7.fhir.uv.smart-app-launch_2.2.0": "SMART App Launch 2.2.0, client",
}
_COMMAND = "python -m scripts.conformance"
_DOORS = (
    "The table that the server itself enforces: a route that is not in it keeps the server from "
    "starting. **Door** is what has to be shown: nothing (`open`), the signed token of a trusted "
    "EHR (`cds`), an access token (`bearer`), the secret of a session (`session`), the token of "
    "the PACS (`pacs`), the token of Prometheus (`metrics`). **Permission** is what the role must "
    "have. **Audit** is the subtype of the event that is recorded before anything of a patient is "
    "shown: a RESTful interaction, or a DICOM code (110122 sign-in, 110123 sign-out, 110127 "
    "emergency access); `read-once` records the opening of the images, not each image."
)
_LONGEST = 220
_LINK = re.compile(r"\[([^\]]*)\]\(https?://[^)]*\)")
_MARK = re.compile(r"([\\*_\[\]<>|#])")
_NOTE = "<!-- Made by scripts/conformance.py; do not edit. -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement and its answer.

    Parameters
    ----------
    standard, id
        The key of the row.
    conformance
        SHALL, SHALL NOT, SHOULD, SHOULD NOT, MAY or DEPRECATED.
    text, url
        As published.
    tests
        Tests that show it: file and name, parted by ``::``.
    missing
        What of it is not shown, or not kept; alone, nothing of it is.
    reason
        Why it does not apply.
    """

    standard: str
    id: str
    conformance: str
    text: str
    url: str
    tests: tuple[str, ...] = ()
    missing: str = ""
    reason: str = ""

    @property
    def binding(self) -> bool:
        """Whether it is a SHALL or a SHALL NOT."""
        return self.conformance.startswith("SHALL")

    @property
    def answered(self) -> bool:
        """Whether it has an entry."""
        return bool(self.tests or self.missing or self.reason)


def rows() -> Sequence[Row]:
    """Give every row of the lists with its answer, in the order of the lists."""
    answers = tomllib.loads((ROOT / REQUIREMENTS).read_text(encoding="utf-8"))
    found = []
    for path in sorted((ROOT / FOLDER / "requirements").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            for each in csv.DictReader(lines):
                answer = answers.get(each["set"], {}).get(each["id"], {})
                found.append(
                    Row(
                        each["set"],
                        each["id"],
                        each["conformance"],
                        each["requirement"],
                        each["url"],
                        tuple(answer.get("tests", ())),
                        answer.get("missing", ""),
                        answer.get("reason", ""),
                    )
                )
    return found


def documents() -> Mapping[Path, str]:
    """Give every file that is made, by its path below the repository."""
    discovery = {"services": [each.described(SystemActions.NONE) for each in SERVICES]}
    statement = capability_statement(BASE_URL, version("radcds"), RELEASE_DATE)
    routes = "\n".join(_route_table())
    return {
        FOLDER / "requirements.md": _requirements(rows()),
        FOLDER / "cds-services.json": _json(discovery),
        FOLDER / "capability-statement.json": _json(orjson.loads(emitted(statement))),
        FOLDER / "smart-configuration.json": _json(own_smart_configuration(NETWORK, BASE_URL)),
        FOLDER / "routes.md": f"# Routes\n\n{_NOTE}\n\n{routes}\n",
        Path("docs/reference/routes.md"): _reference(routes, statement),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or compare them; gives the exit code."""
    return write_or_compare(
        documents,
        root=ROOT,
        command=_COMMAND,
        what="Write what radcds conforms to.",
        arguments=arguments,
    )


def _json(value: object) -> str:
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n"


def _requirements(listed: Sequence[Row]) -> str:
    lines = [
        "# Requirements",
        "",
        _NOTE,
        "",
        "Each SHALL and SHOULD of the standards, with the tests that show it, or the reason why it",
        "does not apply to radcds. What is not shown, or not kept, is said. The text of the",
        "requirements is © HL7, shortened; the [lists](requirements/README.md) have it whole.",
        "",
        *_counts(listed),
    ]
    for standard, title in STANDARDS.items():
        own = [row for row in listed if row.standard == standard and row.answered]
        lines += ["", f"## {title}", "", "| id | conformance | requirement | shown by, or reason |"]
        lines += ["|---|---|---|---|", *(_line(row) for row in own)]
    return "\n".join([*lines, ""])


def _counts(listed: Sequence[Row]) -> Iterator[str]:
    yield "| standard | SHALL rows | shown by tests | shown in part | not applicable | not shown |"
    yield "|---|---|---|---|---|---|"
    for standard, title in [*STANDARDS.items(), ("", "**all**")]:
        own = [row for row in listed if row.binding and standard in {row.standard, ""}]
        counts = (
            len(own),
            sum(bool(row.tests) and not row.missing for row in own),
            sum(bool(row.tests and row.missing) for row in own),
            sum(bool(row.reason) for row in own),
            sum(not row.tests and not row.reason for row in own),
        )
        yield f"| {title} | {' | '.join(map(str, counts))} |"


def _line(row: Row) -> str:
    shown = [f"[{_sentence(each)}](../../{each.partition('::')[0]})" for each in row.tests]
    said = [*shown, *([f"**Missing:** {row.missing}"] if row.missing else []), row.reason]
    answer = "<br>".join(each for each in said if each)
    return f"| [{row.id}]({row.url}) | {row.conformance} | {_shortened(row.text)} | {answer} |"


def _sentence(test: str) -> str:
    """Give the name of a test in words: it is a sentence."""
    return test.partition("::")[2].removeprefix("test_").replace("_", " ")


def _shortened(text: str) -> str:
    """Give a requirement on one line that means nothing else in a table of Markdown."""
    flat = textwrap.shorten(_LINK.sub(r"\1", text), _LONGEST, placeholder=" …")
    parts = flat.split("`")
    if len(parts) % 2 == 0:  # cut within code
        return _MARK.sub(r"\\\1", "".join(parts))
    return "`".join(
        part.replace("|", "\\|") if number % 2 else _MARK.sub(r"\\\1", part)
        for number, part in enumerate(parts)
    )


def _route_table() -> Iterator[str]:
    yield "| method | path | door | permission | audit |"
    yield "|---|---|---|---|---|"
    for each in ROUTES:
        permission = f"`{each.permission.value}`" if each.permission.value else "—"
        audit = f"`{each.audit}`" if each.audit else "—"
        yield f"| {each.method} | `{each.path}` | {each.door} | {permission} | {audit} |"


def _reference(routes: str, statement: Mapping[str, object]) -> str:
    read = orjson.loads(orjson.dumps(statement))
    (rest,) = read["rest"]
    types = ", ".join(each["type"] for each in rest["resource"])
    parameters = [each["name"] for each in rest["resource"][0]["searchParam"]]
    named = ", ".join(f"`{each}`" for each in parameters)
    above = _filled(_DOORS)
    below = _filled(f"FHIR types: {types}. Search parameters: {named}. {rest['documentation']}")
    return f"# Routes\n\n{_NOTE}\n\n{above}\n\n{routes}\n\n{below}\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
