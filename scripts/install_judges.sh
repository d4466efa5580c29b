#!/usr/bin/env bash
# Install the independent validators from npm that the contract tests ask.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_system.sh nodejs
echo "Installing the FHIR and HL7 validators …"
mkdir -p .cache/judges
cp tests/contract/judges/package.json .cache/judges/
npm install --prefix .cache/judges --silent --no-audit --no-fund --ignore-scripts
touch .cache/judges.stamp
