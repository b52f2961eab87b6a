#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can show, in parts, the most valuable first, and without a network:
#
#   benchmarks/gpu.sh [--budget SECONDS] [--parts NAME,NAME,...] [FOLDER]
#
# Rows and charts are stored in FOLDER (default: results), the parts' logs and their outcome in FOLDER/gpu. PYTHON names
# the interpreter that has mnistbench[dev] and CuPy (default: python3). benchmarks/on_gpu/ says what the parts are.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m benchmarks.on_gpu --from "$here" "$@"
