#!/bin/bash
# A custom reward needs no C: a worker of some 60 lines of Python, written from proto/README.md, scores a whole run. By the same rule it
# gives the same weights as candor-reward.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

python=/usr/bin/python3 # Debian's, that has these modules
if ! "$python" -c 'import zmq, msgpack' 2>/dev/null; then
    echo "no python3-zmq and python3-msgpack"
    exit 77
fi
if [ -n "$SANITIZE" ]; then
    echo "minutes under sanitizers, and no program of Candor that other tests do not run there"
    exit 77
fi
worker=$SOURCE_DIR/tests/integration/python_worker.py

tiny_world 150
sed -i 's|^steps = 3|steps = 6|; s|^group = 4|group = 8|; s|^questions = 4|questions = 12\ntemperature = 0.6|' run.ini # answers in whole words: matching needs no forbearance

echo "-- candor-reward, rule ternary"
works "$candor" train --config run.ini --run c --set reward.rule=ternary

echo "-- the worker in Python"
mkdir -p python/sockets
"$python" "$worker" "ipc://$PWD/python/sockets/control" "ipc://$PWD/python/sockets/reward" 2>.test.worker &
works "$candor" train --config run.ini --run python --rewards 0 --set reward.rule=ternary
kill $!
[ ! -s .test.worker ] || die "the worker: $(cat .test.worker)"

value() { sed -n "s/.*\"$2\":\"\?\([^\",}]*\).*/\1/p" "$1/metrics.jsonl"; }
[ "$(grep -c '"scored_by":{"python":12}' python/metrics.jsonl)" = 6 ] || die "not all was scored by the worker in Python"
[ "$(value c weights | sort -u | wc -l)" = 6 ] || die "weights that did not change: the test shows nothing"
for key in reward reward_std weights; do
    cmp -s <(value c $key) <(value python $key) || die "$key differs: $(value c $key | tr '\n' ' ') and $(value python $key | tr '\n' ' ')"
done

echo "-- a rule of its own"
"$python" "$worker" "ipc://$PWD/custom/sockets/control" "ipc://$PWD/custom/sockets/reward" 2>.test.worker &
mkdir -p custom/sockets
works "$candor" train --config run.ini --run custom --rewards 0 --set reward.rule=custom-mine --set run.steps=2
kill $! 2>/dev/null
echo "-- good"
