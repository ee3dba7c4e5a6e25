# Sourced by shell tests: what several of them say. run_script gives the variables and a fresh directory.
candor=$BIN_DIR/candor learner=$BIN_DIR/candor-learner actor=$BIN_DIR/candor-actor reward=$BIN_DIR/candor-reward
[ -z "$SANITIZE" ] || export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1

die() {
    echo "FAILED: $*"
    exit 1
}

# Every file and directory with its size and time, but not those under the path that may_leave names. What a test keeps for
# itself begins with ".test".
listing() {
    find . -name '.test*' -prune -o -path "${may_leave:-./.test}" -prune -o -type d -printf '%p\n' -o -printf '%p %s %T@\n' | sort
}

# refused CODE WORDS COMMAND...: ends with this code; one line of stderr, the last, is of the program and says these words (a
# pattern of [[ ]]); nothing is changed or left behind, except under the path that may_leave names.
refused() {
    local code=$1 words=$2 got line before
    shift 2
    before=$(listing)
    timeout -k 5 60 "$@" >.test.out 2>.test.err </dev/null
    got=$?
    line=$(tail -n 1 .test.err)
    [ $got = "$code" ] || die "$*: exit $got instead of $code: $line"
    [[ $line == candor*": "*$words* ]] || die "$*: \"$line\" does not say \"$words\""
    [ "$(grep -c '^candor[-a-z ]*: ' .test.err)" = 1 ] || die "$*: more than one line: $(cat .test.err)"
    ! grep -E 'Sanitizer|runtime error|assertion failed' .test.err || die "$*"
    [ "$before" = "$(listing)" ] || die "$*: it changed or left something: $(diff <(echo "$before") <(listing))"
}

# works COMMAND...: exit 0; its output in .test.out
works() {
    timeout -k 5 120 "$@" >.test.out 2>.test.err </dev/null || die "$*: exit $?: $(tail -n 3 .test.err)"
}

# wait_for WHAT CONDITION...: until the command succeeds
wait_for() {
    local what=$1 i
    shift
    for ((i = 0; i < 1200; i++)); do
        "$@" && return
        sleep 0.05
    done
    die "$what does not come"
}

# A world of few facts, a model that knows little of it, and a run's configuration: world, base, run.ini.
tiny_world() {
    works "$candor" data world --seed 3 --always 8 --sometimes 8 --never 8 --out world
    works "$candor" sft --init world --out base --set sft.data=world/sft.jsonl --set sft.steps="${1:-3}" --set sft.batch=32 \
        --set sft.lr=3e-3 --set sft.warmup=5
    cat >run.ini <<END
[run]
steps = 3
lag = 0
[model]
path = base
[data]
train = world/train.jsonl
eval = world/held-out.jsonl
[prompt]
system = Answer
forced = Guess
max_tokens = 16
[sample]
group = 4
questions = 4
max_new_tokens = 12
[loss]
kl = 0
[optim]
lr = 3e-4
warmup = 0
[train]
threads = 1
[sft]
data = world/sft.jsonl
steps = 1
batch = 4
[eval]
samples = 2
[hub]
heartbeat_ms = 100
END
}
