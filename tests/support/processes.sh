# Sourced by shell tests, behind script.sh, that start the daemons one by one and look at what becomes of them.
declare -A pid

# start NAME PROGRAM ARGUMENTS...: in the background, its output behind that of its earlier lives in NAME.log
start() {
    local name=$1
    shift
    "$@" >>"$name.log" 2>&1 </dev/null &
    pid[$name]=$!
}

# Variables of the environment for what is started, as VARIABLE=VALUE; a test sets and clears them.
environment=()
begin_learner() { # begin_learner RUN ARGUMENTS...: its log is learner-RUN.log
    start "learner-$1" env "${environment[@]}" "$learner" --config run.ini --run "$1" "${@:2}"
}
begin_actor() { # begin_actor NAME RUN ARGUMENTS...
    mkdir -p "$2"
    start "$1" env "${environment[@]}" "$actor" --run "$2" --set "actor.name=$1" --set actor.threads=1 "${@:3}"
}
begin_reward() { # begin_reward NAME RUN ARGUMENTS...
    mkdir -p "$2"
    start "$1" env "${environment[@]}" "$reward" --run "$2" "${@:3}"
}

# ends CODE NAME [WORDS]: it ends by itself with this code, its last line says these words
ends() {
    local code line
    wait "${pid[$2]}"
    code=$?
    unset "pid[$2]"
    line=$(tail -n 1 "$2.log")
    [ $code = "$1" ] || die "$2: exit $code instead of $1: $line"
    [ $# = 2 ] || [[ $line == *$3* ]] || die "$2: \"$line\" does not say \"$3\""
}
finish() { ends 0 "$1"; }

stop() { # stop NAMES...: SIGTERM, and they end well
    local name
    for name in "$@"; do kill -TERM "${pid[$name]}" 2>/dev/null; done
    for name in "$@"; do finish "$name"; done
}
destroy() { # destroy NAMES...: SIGKILL
    local name
    for name in "$@"; do
        kill -KILL "${pid[$name]}"
        wait "${pid[$name]}" 2>/dev/null
        unset "pid[$name]"
    done
}
freeze() { local name; for name in "$@"; do kill -STOP "${pid[$name]}"; done; }
thaw() { local name; for name in "$@"; do kill -CONT "${pid[$name]}"; done; }
lives() { kill -0 "${pid[$1]}" 2>/dev/null; }

says() { grep -q "$2" "$1.log" 2>/dev/null; } # says NAME WORDS: somewhere in its log
lines() { [ -f "$1/metrics.jsonl" ] && wc -l <"$1/metrics.jsonl" || echo 0; }
has_steps() { [ "$(lines "$1")" -ge "$2" ]; }
# column RUN KEY: the values of a key in metrics.jsonl, a line a step
column() { sed -n "s/.*\"$2\":\(\"[^\"]*\"\|{[^}]*}\|\[[^]]*\]\|[^,}]*\)[,}].*/\1/p" "$1/metrics.jsonl"; }

# ask RUN: what its learner says, in .test.status; false when none answers
ask() { "$candor" status --run "$1" --json --timeout 2 >.test.status 2>/dev/null; }
hub_state() { sed -n 's/.*"state":"\([^"]*\)","doing".*/\1/p' .test.status; }
count() { sed -n "s/.*\"counts\":{[^}]*\"$1\":\([0-9]*\)[,}].*/\1/p" .test.status; }
peers() { sed 's/{"role":/\n&/g' .test.status | grep '^{"role":'; } # a line each
peer() { peers | grep "\"name\":\"$1\"" | sed -n "s/.*\"$2\":\(\"[^\"]*\"\|[^,}]*\)[,}].*/\1/p"; } # peer NAME KEY

present() { peers | grep -c "\"role\":\"$1\""; } # present ROLE: how many of them the hub knows

# above NUMBER RUN FIGURE...: it is asked, and then the figure (count NAME, peer NAME KEY, present ROLE) is above the number
above() {
    local figure
    ask "$2" || return 1
    figure=$("${@:3}")
    [[ $figure =~ ^[0-9]+$ ]] && [ "$figure" -gt "$1" ]
}

# same RUN: weights after every step, answers, the last checkpoint and its moments are those of run "one"
same() {
    local last
    last=$(cat one/checkpoints/latest)
    [ "$(lines "$1")" = "$(lines one)" ] || die "$1: $(lines "$1") steps"
    cmp -s <(column one weights) <(column "$1" weights) || die "$1: other weights than run one"
    diff -r one/rollouts "$1/rollouts" >.test.diff || die "$1: other answers than run one: $(head -n 3 .test.diff)"
    for file in model optimiser; do
        cmp "one/checkpoints/$last/$file.safetensors" "$1/checkpoints/$last/$file.safetensors" || die "$1: another $file than run one"
    done
}

# A tiny world, a model that knows some of it (under sanitizers too little to learn anything: teaching it takes half a minute
# there), and what is undisturbed: run "one".
undisturbed() { # undisturbed STEPS QUESTIONS GROUP TOKENS
    local taught=60
    [ -z "$SANITIZE" ] || taught=5
    tiny_world $taught
    sed -i "s/^steps = 3/steps = $1/; s/^questions = 4/questions = $2/; s/^group = 4/group = $3/; s/^max_new_tokens = 12/max_new_tokens = $4/" run.ini
    works "$candor" train --config run.ini --run one
    [ -n "$SANITIZE" ] || [ "$(column one weights | sort -u | wc -l)" = "$(lines one)" ] ||
        die "weights that did not change: the test shows nothing"
}
