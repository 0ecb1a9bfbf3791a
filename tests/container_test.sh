#!/usr/bin/env bash
# Builds the image of the sample catalogue and tests it, with no network but loopback: make container-test. BENCH=1 measures it too.
# Needs Linux and root; on Debian it installs the tools that are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "error: make container-test builds and runs an image without a daemon, which needs root" >&2; exit 1; }
missing=()
for tool in buildah debootstrap bubblewrap:bwrap iproute2:ip; do
  command -v "${tool#*:}" >/dev/null || missing+=("${tool%:*}")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "error: make container-test needs ${missing[*]}" >&2; exit 1; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi
base=${BASE_IMAGE:-localhost/bentolens-base:bookworm}
export BENTOLENS_IMAGE=localhost/bentolens:test
case $base in localhost/bentolens-base:*) tests/base_image.sh "$base" ;; esac
# BentoML's store, apart from the user's own.
export BENTOML_HOME=$PWD/.cache/bentoml
rm -rf "$BENTOML_HOME"
make --no-print-directory container BACKEND=buildah BASE_IMAGE="$base" IMAGE="$BENTOLENS_IMAGE" \
  CONTAINERIZE="--opt isolation=chroot --opt network=host --opt layers"
tests="tests/test_container.py tests/server/test_service.py tests/server/test_requests.py tests/demo/test_page.py tests/server/test_shutdown.py tests/soak/test_killed.py"
# One address of the open internet is this machine's own there: the tests of URLs need a public host.
offline() { unshare --net bash -c 'ip link set lo up && ip addr add 93.184.215.14/32 dev lo && exec "$@"' - .venv/bin/python -m "$@"; }
# shellcheck disable=SC2086
offline pytest ${TESTS:-$tests}
[ -z "${BENCH:-}" ] || offline benchmarks.container --quick
