# Sourced by deploy/quickstart and tests/run (bash): steps with their time, and the Debian packages.
# Each step's output goes to build/logs/STEP.log; the screen gets one line when it begins and one when it ends.

say() { printf '%s\n' "$*"; }

# seconds since the epoch, whole
now() { date +%s; }

stop() {
    say "$program: $*" >&2
    exit 1
}

# step NAME "what it does" COMMAND...: runs it, tells the time; on failure shows the end of its log and returns 1.
step() {
    local name=$1 text=$2 began log
    shift 2
    log=build/logs/$name.log
    mkdir -p build/logs
    say "== $text"
    began=$(now)
    if "$@" >"$log" 2>&1; then
        say "   done in $(($(now) - began)) s"
        return 0
    fi
    say "   FAILED after $(($(now) - began)) s; the end of $log:"
    { grep -E ' error: |undefined reference|^CMake Error|^E: ' "$log" | head -n 20; say ...; tail -n 15 "$log"; } |
        cut -c 1-300 | sed 's/^/   | /'
    return 1
}

# packages_for USE...: names from packages.txt
packages_for() {
    awk -v uses=" $* " '$1 !~ /^#/ && NF >= 2 && index(uses, " " $2 " ") { print $1 }' deploy/packages.txt
}

missing_packages() {
    local name
    for name in $(packages_for "$@"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s ' "$name"
    done
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install -y --no-install-recommends "$@"
}

# install_packages USE...: what is missing of these uses. Without root: prints the one line to run and stops.
install_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null; then
        say "== packages: not a Debian system; going on with what is installed (deploy/packages.txt lists what is needed)"
        return 0
    fi
    missing=$(missing_packages "$@")
    if [ -z "$missing" ]; then
        say "== packages: all there"
    elif [ "$(id -u)" != 0 ]; then
        say "$program: packages are missing; run this line, then $program again:" >&2
        say "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends ${missing% }'" >&2
        exit 1
    else
        # shellcheck disable=SC2086 # a list of words
        step packages "installing Debian packages: ${missing% }" apt_install $missing ||
            stop "packages could not be installed (is there a network?)"
    fi
}

# build PRESET [cmake arguments]: configures and builds into build/PRESET
configure_and_build() {
    local preset=$1 launcher=
    shift
    command -v ccache >/dev/null && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
    cmake --preset "$preset" $launcher && cmake --build "build/$preset" -j "$(nproc)" "$@"
}
