"""Serve the mock EHR on this machine: ``python -m mock_ehr --radcds http://127.0.0.1:8080``."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import orjson

from mock_ehr.local_server import LocalServer
from mock_ehr.records import Resource, demo_records
from mock_ehr.registration import AppRegistration
from mock_ehr.server import MockEhr

_SCOPES = (
    "openid fhirUser launch launch/patient launch/encounter launch/imagingstudy online_access "
    "patient/*.rs user/*.rs system/*.rs"
)


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted.

    Parameters
    ----------
    arguments
        The command line; that of the program where none is given.
    """
    options = _parser().parse_args(arguments)
    server = LocalServer(options.port)
    with MockEhr(server.base_url, _registration(options), _records(options)) as ehr:
        sys.stdout.write(f"Mock EHR: {server.base_url}/\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            server.serve(ehr.app)
        server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mock_ehr", description=__doc__)
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--radcds", default="http://127.0.0.1:8080", help="the app's base address")
    parser.add_argument("--client-id", default="radcds")
    parser.add_argument("--launch-path", default="/launch")
    parser.add_argument("--redirect-path", default="/callback")
    parser.add_argument("--jwks-path", default="/.well-known/jwks.json")
    parser.add_argument("--scopes", default=_SCOPES, help="the most that the app is granted")
    parser.add_argument("--records", type=Path, help="JSON list, or Bundle, of FHIR R4 resources")
    parser.add_argument(
        "--identifier",
        action="append",
        default=[],
        metavar="SYSTEM|VALUE",
        help="identifier of an invented patient, where there are no --records; repeatable",
    )
    return parser


def _registration(options: argparse.Namespace) -> AppRegistration:
    base = options.radcds.rstrip("/")
    return AppRegistration(
        client_id=options.client_id,
        launch_url=f"{base}{options.launch_path}",
        redirect_uris=(f"{base}{options.redirect_path}",),
        jwks_url=f"{base}{options.jwks_path}",
        scopes=frozenset(options.scopes.split()),
        cds_base_url=base,
    )


def _records(options: argparse.Namespace) -> list[Resource]:
    if options.records is None:
        pairs = (each.rpartition("|") for each in options.identifier)
        return demo_records([(system, value) for system, _, value in pairs])
    held = orjson.loads(options.records.read_bytes())
    if isinstance(held, dict):
        return [entry["resource"] for entry in held["entry"]]
    return list(held)


if __name__ == "__main__":
    sys.exit(main())
