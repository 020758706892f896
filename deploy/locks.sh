#!/bin/sh
# Writes deploy/locks: every package by version and hash, at the versions of constraints.txt. No
# address of a registry is written. `make lock`; needs uv (it is among the extra dev).
#   build.txt         what builds Letheon's own wheel
#   coordinator.txt   the coordinator: image or machine
#   torch-cpu.txt     agent and calibrator, PyTorch's wheel for processors (from PyTorch, or a folder)
#   torch-cuda.txt    the same with the wheel of PyPI, which brings CUDA
#   development.txt   all extras and what checks and tests use, with the wheel for processors
set -eu
cd "$(dirname "$0")/.."
locks=deploy/locks
PATH=${BIN:-.venv/bin}:$PATH
# What the linux wheel of torch on PyPI needs, and the one for processors does not.
CUDA='^(nvidia-|cuda-|triton)'
compile() {
  uv pip compile --quiet --generate-hashes --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "$@"
}
extras() { for each in "$@"; do printf -- '--extra %s ' "$each"; done; }
mkdir -p "$locks"
printf 'setuptools==84.2.1\nwheel==0.45.1\n' | compile -o "$locks/build.txt" -
# shellcheck disable=SC2046 # words on purpose
compile -c constraints.txt pyproject.toml $(extras postgres s3 tracing) -o "$locks/coordinator.txt"
# shellcheck disable=SC2046
compile -c constraints.txt pyproject.toml $(extras torch dicom nifti tracing privacy) \
  -o "$locks/torch-cuda.txt"
# shellcheck disable=SC2046
compile -c constraints.txt pyproject.toml \
  $(extras torch dicom nifti local lab report postgres s3 tracing privacy fuzz dev) \
  -o "$locks/development.txt"
# Without CUDA: PyTorch's own build for processors, a wheel that PyPI does not have.
for_processors() {
  python3 - "$locks/$1" "$CUDA" "$2" << 'END'
import re, sys
CPU = {"2.13.0": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}
blocks = re.split(r"\n(?=\S)", open(sys.argv[1]).read().rstrip("\n"))
for block in blocks:
    name, _, rest = block.partition("==")
    if re.match(sys.argv[2], name) or name == sys.argv[3]:
        continue
    if name == "torch":
        version = rest.split()[0]
        block = f"torch=={version}+cpu \\\n    --hash=sha256:{CPU[version]}"
    print(block)
END
}
for_processors torch-cuda.txt setuptools > "$locks/torch-cpu.txt"  # setuptools is in build.txt
for_processors development.txt - > "$locks/development.new"
mv "$locks/development.new" "$locks/development.txt"
