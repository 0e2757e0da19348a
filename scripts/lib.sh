# shellcheck shell=bash
# Shared by the scripts beside this file: where things live, plain messages, and looking after background servers.
# Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SAGA_CACHE:-$ROOT/.cache}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

check_port() { # check_port NAME VALUE
    if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || (($2 > 65535)); then
        die "$1 must be a port number, not '$2'"
    fi
}

# True when something accepts connections on this loopback port.
port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The command line of a live process; nothing for a dead one or a zombie that nobody has reaped.
process_args() {
    case $(ps -o stat= -p "$1" 2>/dev/null) in
        '' | Z*) return 1 ;;
    esac
    ps -ww -o args= -p "$1" 2>/dev/null
}
process_alive() { process_args "$1" >/dev/null; }
process_paused() {
    case $(ps -o stat= -p "$1" 2>/dev/null) in
        T*) return 0 ;;
        *) return 1 ;;
    esac
}

# wait_until SECONDS COMMAND...: polls every 50 ms.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

gone() {
    local pid
    for pid in "$@"; do
        if process_alive "$pid"; then return 1; fi
    done
}

# Runs a command in a session of its own, so that it outlives the caller and is not hit by the caller's Ctrl-C.
# spawn LOG COMMAND...; file descriptor 9, the lock, is not handed on.
spawn() {
    local log=$1
    shift
    if have setsid; then
        setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
    else
        nohup "$@" >"$log" 2>&1 </dev/null 9>&- &
    fi
    SPAWNED=$!
    disown "$SPAWNED" 2>/dev/null || true
}

# lock FILE [SECONDS]: one start, stop or wipe at a time for each server; without flock (macOS) there is no such
# protection.
lock() {
    exec 9>"$1"
    if have flock; then
        flock -w "${2:-120}" 9 || die "another ${0##*/} has held $1 for ${2:-120} s"
    fi
}

# machine_lock NAME [SECONDS]: as lock, for what all clones and users of this machine have in common.
machine_lock() {
    local folder=/run/lock file
    [[ -w $folder ]] || folder=/tmp
    file=$folder/saga-$1
    # Whoever comes first makes it; to the others reading is enough.
    (umask 022 && : >>"$file") 2>/dev/null || true
    exec 9<"$file" || die "$file cannot be opened"
    if have flock && ! flock -n 9; then
        say "Waiting for another ${0##*/} on this machine ($file) ..." >&2
        flock -w "${2:-120}" 9 || die "another ${0##*/} has held $file for ${2:-120} s"
    fi
}

# A Docker that hangs is none.
docker_answers() {
    if have timeout; then timeout 10 docker version >/dev/null 2>&1; else docker version >/dev/null 2>&1; fi
}

keep_previous_log() { if [[ -s $1 ]]; then mv -f "$1" "$1.previous"; fi; }
