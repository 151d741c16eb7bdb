#!/usr/bin/env bash
# ready.sh available [MODEL [PORT]]   succeeds when a version of the model is AVAILABLE
# ready.sh loaded    [MODEL [PORT]]   ... and no version is being loaded: for the start, when all labels shall be answered
#
# It asks for GetModelStatus over HTTP. The gRPC health service says SERVING from the start on, and the status page has
# code 200 while a version is loading too, so neither is a probe by itself. The image has bash and grep, but no curl.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${3:-8501}"
printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${2:-spinet}" >&3
status="$(cat <&3)"
grep --quiet '"state": "AVAILABLE"' <<<"$status"
if [ "$1" = loaded ] && grep --quiet --extended-regexp '"state": "(START|LOADING)"' <<<"$status"; then
    exit 1
fi
