#!/usr/bin/env bash
# Install the Debian packages whose program is missing.
set -euo pipefail
missing=()
for package in "$@"; do
  case "$package" in
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv) ;;
    chromium) command -v chromium >/dev/null || missing+=(chromium) ;;
    orthanc) command -v Orthanc >/dev/null || missing+=(orthanc orthanc-dicomweb) ;;
    openjph-tools) command -v ojph_compress >/dev/null || missing+=(openjph-tools) ;;
    dcmtk) command -v storescu >/dev/null || missing+=(dcmtk) ;;
    nodejs) { command -v node && command -v npm; } >/dev/null || missing+=(nodejs npm) ;;
    *) echo "unknown package: $package" >&2; exit 2 ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "please install: ${missing[*]}  (for example: sudo apt-get install ${missing[*]})" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing ${missing[*]} …"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
