#!/usr/bin/env bash
# Every test, in three parts at once: one computes, the processes of the others mostly wait for
# each other. The part that computes steps back, so that waiting ones are not late.
set -uo pipefail
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
nice pytest tests/unit tests/conformance tests/fuzz "$@" > "$logs/unit" 2>&1 &
computing=$!
pytest tests/system "$@" > "$logs/system" 2>&1 &
starting=$!
pytest tests/contract tests/scenario "$@"
worst=$?
for part in "$computing" "$starting"; do
  wait "$part"
  ended=$?
  [ "$ended" -le "$worst" ] || worst=$ended
done
cat "$logs/system" "$logs/unit"
exit "$worst"
