#!/bin/sh
# Writes the lock files anew from pyproject.toml and the *.in files; needs uv. An entry moves to a newer version only
# when it is named, as in `requirements/lock.sh --upgrade-package grpcio`, or all do with `--upgrade`.
set -eu
cd "$(dirname -- "$0")/.."

lock() {
  out=$1
  shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --output-file "requirements/$out.txt" "$@"
}

lock run "$@" pyproject.toml requirements/run.in
lock test "$@" pyproject.toml requirements/run.in requirements/test.in --constraint requirements/run.txt
lock envoy "$@" requirements/envoy.in
lock nacos-sdk "$@" requirements/nacos-sdk.in
lock py-eureka-client "$@" requirements/py-eureka-client.in
lock py-consul "$@" requirements/py-consul.in
