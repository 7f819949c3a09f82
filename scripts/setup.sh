#!/bin/sh
# Makes .venv ready. `setup.sh run` installs what the server needs, `setup.sh dev` what tests and linters need as well.
# Works with any one of uv, python3 with venv, or python3 with pip. Does nothing when locks and pyproject.toml are unchanged.
set -eu
cd "$(dirname "$0")/.."
level=${1:-run}

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
can() { "$python" -c "$1" >/dev/null 2>&1; }

# Ctrl-C also reaches the installer, which has nothing to say then that helps.
errors=.venv.errors
trap 'rm -f "$errors"; say "stopped; run it again" >&2; exit 130' INT
quietly() {
    "$@" 2>"$errors" || { cat "$errors" >&2; rm -f "$errors"; exit 1; }
    cat "$errors" >&2
    rm -f "$errors"
}

# The path is part of the state: the scripts in .venv/bin name it, so a moved checkout needs a new environment.
state="$(cat pyproject.toml requirements/run.txt requirements/dev.txt scripts/setup.sh | cksum) $PWD"
installed() { [ -x .venv/bin/heliograph ] && [ "$(cat ".venv/stamp-$1" 2>/dev/null)" = "$state" ]; }
ready() { installed dev || { [ "$level" = run ] && installed run; }; }

# Two targets started at the same moment must not install into each other.
if have flock; then exec 9>.venv.lock && flock 9; fi
if ready; then exit 0; fi

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$python" && can 'import sys; sys.exit(sys.version_info < (3, 11))'; then return; fi
    done
    python=
}

explain() {
    say "$1" >&2
    say "Install it with: apt-get install -y python3 python3-venv   (as root; or install uv, as a user, any way you like)" >&2
    exit 1
}

say "installing the locked requirements ($level) into .venv, which takes about a minute"
case "$(cat .venv/stamp-* 2>/dev/null)" in *" $PWD"*) ;; *) rm -rf .venv ;; esac

if have uv; then
    [ -x .venv/bin/python ] || quietly uv venv --quiet --python '>=3.11' .venv
    install() { quietly uv pip install --quiet --python .venv/bin/python "$@"; }
else
    find_python
    [ -n "$python" ] || explain "needs uv or Python 3.11 or newer"
    if can 'import ensurepip; ensurepip.version()'; then
        [ -x .venv/bin/pip ] || quietly "$python" -m venv --clear .venv
        pip() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }
    elif can 'import pip.__main__'; then # Debian's python3 without python3-venv
        [ -x .venv/bin/python ] || quietly "$python" -m venv --without-pip .venv
        pip() { "$python" -m pip --python .venv/bin/python install -qq --disable-pip-version-check "$@"; }
    else
        explain "$python has neither venv nor pip"
    fi
    # uv needs a quarter of pip's time, so pip fetches uv, as locked, and does the rest only where that cannot be had.
    with_uv() {
        awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' requirements/dev.txt >.venv/uv.txt
        [ -x .venv/bin/uv ] || pip --require-hashes -r .venv/uv.txt
        UV_HTTP_TIMEOUT=20 .venv/bin/uv pip install --quiet --python .venv/bin/python "$@"
    }
    install() { with_uv "$@" 2>/dev/null || quietly pip "$@"; }
fi

rm -f .venv/stamp-*
install --require-hashes -r "requirements/$level.txt"
install --no-deps --no-build-isolation -e .
printf '%s\n' "$state" >".venv/stamp-$level"
say "done"
