# shellcheck shell=bash
# Sourced by the scripts beside it: `set_up SET FILE "$@"` makes or updates .venv. SET is train (for
# `fastbp train`) or dev (for tests and checks). Until then --help is answered by the top of FILE.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python
log=$venv/fastbp-setup.log
under_way=$venv/fastbp-under-way # is left behind by a set-up that was interrupted

say() { echo "${0##*/}:" "$@" >&2; } # stdout belongs to the command
fail() { say "${@:2}" && exit "$1"; }
pip() { PIP_USER=0 "$python" -I -m pip install --no-input --disable-pip-version-check "$@"; }
stamp() { # where .venv is, its Python, what was asked for
  "$python" -I -S -c 'import sys; print(*sys.argv[1:], sys.version_info[:2], sep="\n")' "$root" &&
    grep '^__version__' "$root/fastbp/__init__.py" && cat "$root/pyproject.toml"
}
is_set_up() { [[ -s $1 && ! -e $under_way && $(<"$1") == "$(stamp 2>/dev/null)" ]]; }
is_usable() { # neither interrupted nor moved, and its Python runs; one made by uv has no pip
  [[ ! -e $under_way && (! -e $1 || $(head -n 1 "$1") == "$root") ]] &&
    { "$python" -I -m pip --version || "$python" -I -m ensurepip; } >/dev/null 2>&1
}
find_python() { # prints the path of $PYTHON, or of the first in the PATH that can make .venv
  local IFS=: name PATH=${PATH#"$venv/bin:"} # not that of .venv itself
  for name in ${PYTHON:-python3:python3.14:python3.13:python3.12:python3.11}; do
    "$name" -I -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
      command -v "$name" && return
  done
  fail 1 "no Python 3.11 or newer with venv and ensurepip in ${PYTHON:-the PATH}; install one" \
    "(Debian, Ubuntu: apt install python3-venv) or name it: PYTHON=/path/to/python3 $0"
}
answer_help() { # by the comment at the top of a script, or the docstring of a program
  case " ${*:2} " in
    *' -h '* | *' --help '*) sed -E '/^#!/d; /^set -|^"""$/,$d; s/^# |"""//' "$1" && exit ;;
  esac
}
set_up() {
  local base packages=(--editable '.[cli]') file=$venv/fastbp-$1.installed
  ! is_set_up "$file" || return 0
  answer_help "${@:2}"
  [[ $1 != dev ]] || packages=(--editable '.[all]' --group dev)
  base=$(find_python) || exit
  say 'installing fastbp and what it needs into .venv (once; it may take some minutes)'
  "$base" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || true # one set-up at a time
  ! is_set_up "$file" || return 0
  if ! is_usable "$venv/fastbp-train.installed"; then
    [[ ! -e $venv ]] || say '.venv was interrupted or moved, or lost its Python: making it anew'
    rm -rf "$venv" && mkdir "$venv"
  fi
  touch "$under_way"
  if ! (cd "$root" && { [[ -x $python ]] || "$base" -m venv .venv; } &&
    pip 'pip>=25.1' && pip "${packages[@]}") </dev/null >"$log" 2>&1; then
    grep -q '^Installing collected' "$log" || rm "$under_way"
    fail 1 "set-up failed: $(sed -n '/^ *ERROR: /{s///p;q;};$p' "$log") (network? see $log)"
  fi
  stamp | tee "$venv/fastbp-train.installed" >"$file" # dev holds all of train
  rm "$under_way"
} 9<"$root/pyproject.toml"
