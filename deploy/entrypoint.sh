#!/bin/sh
# Process 1 of a container ignores every signal that it has no handler for, and BentoML has none until it has started: told
# to stop before that, it would start all the same. So it is not process 1, and this is.
stop() { stopped=1; [ -z "$child" ] || kill -TERM "$child"; }
child='' stopped=''
trap stop TERM INT
"$BENTO_PATH/env/docker/entrypoint.sh" "$@" &
child=$!
[ -z "$stopped" ] || stop
while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
exit "$status"
