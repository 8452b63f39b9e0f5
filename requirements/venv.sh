#!/usr/bin/env bash
# Makes the virtual environment FOLDER, or brings it up to date; does nothing when its stamp says
# that it was made from the same lock file (LOCK, or development.txt beside this script). Safe while
# others use the environment.
set -euo pipefail

folder=${1:?usage: requirements/venv.sh FOLDER [LOCK]}
lock=${2:-$(dirname "$0")/development.txt}
stamp=$folder/.requirements.sha256
wanted=$(sha256sum <"$lock")

fresh() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; }
fresh && exit 0

if ! command -v python3.11 >/dev/null; then
    echo "python3.11 is missing: install it (Debian 12 has it as \`apt-get install python3\`)." >&2
    exit 2
fi
if ! python3.11 -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "python3.11 lacks its venv module: install it with \`apt-get install python3.11-venv\`." >&2
        exit 2
    fi
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3.11-venv \
        >/dev/null
fi

mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9
fresh && exit 0
started=$SECONDS
echo "making the virtual environment $folder" >&2
"$folder/bin/python" -c '' 2>/dev/null || python3.11 -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
echo "$wanted" >"$stamp"
echo "made it in $((SECONDS - started)) s" >&2
