#!/usr/bin/env bash
# Make the virtual environment: `serve` to run radcds, `dev` to test it.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?usage: scripts/setup.sh serve|dev}

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "radcds needs Python 3.11 or later; python3 is $(python3 --version)" >&2
  exit 1
fi
if [ "$kind" = dev ]; then
  scripts/install_system.sh python3-venv chromium nodejs orthanc dcmtk openjph-tools
else
  scripts/install_system.sh python3-venv
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "Installing radcds ($kind) into .venv, the first time takes a few minutes …"
case "$kind" in
  serve) .venv/bin/python -m pip install --quiet --editable '.[demo]' ;;
  dev) .venv/bin/python -m pip install --quiet --editable '.[torch,azure,dev]' ;;
  *) echo "unknown kind: $kind" >&2; exit 2 ;;
esac
touch ".venv/$kind.stamp"
