# shellcheck shell=bash
# Set-up, sourced by the scripts beside it.
#
#   set_up train   the package with what `fastbp train` uses
#   set_up dev     all that, with every extra and the dependency group `dev`
#
# Both sets live in one .venv in the repository's root and only add to it. What was
# installed is written down in .venv/fastbp-SET.stamp, so that a later start compares
# two texts and is done. Everything here is said on stderr: stdout is the command's.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python
under_way=$venv/fastbp-setup-under-way
me=${0##*/}

say() { printf '%s: %s\n' "$me" "$*" >&2; }
fail() {
  say "$@"
  exit 1
}

# What the stamp of set $1 holds when nothing is left to do.
stamp_text() {
  printf '%s\n' "set $1 in $root"
  "$python" -I -S -c 'import sys; print("Python %d.%d" % sys.version_info[:2])'
  grep '^__version__' "$root/fastbp/__init__.py" || true
  printf '%s\n' "$(<"$root/pyproject.toml")"
}

is_set_up() {
  local stamp=$venv/fastbp-$1.stamp text
  [[ -f $stamp && -x $python && -x $venv/bin/fastbp && ! -e $under_way ]] || return 1
  text=$(stamp_text "$1" 2>&1) && [[ $text == "$(<"$stamp")" ]]
}

# Prints "good", "old" or "bare" (no venv or no ensurepip), and the version.
probe='
import sys
version = "%d.%d" % sys.version_info[:2]
try:
    import ensurepip, venv
except ImportError:
    ensurepip = None
print(("old " if sys.version_info < (3, 11) else "good " if ensurepip else "bare ") + version)
'

# Sets base_python to a Python that can make .venv, or ends with a line that says what is missing.
find_python() {
  local candidate found bare='' old=''
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    found=$("$candidate" -c "$probe" 2>/dev/null) || found=''
    case $found in
      good*)
        base_python=$candidate
        return
        ;;
      bare*) bare=${bare:-${found#bare }} ;;
      old*) old=${old:-", only ${found#old }"} ;;
    esac
    [[ -z ${PYTHON:-} ]] || break # named by the user: no other will do
  done
  [[ -z $bare ]] || fail "Python $bare has no venv or no ensurepip;" \
    "on Debian and Ubuntu: apt install python$bare-venv"
  [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a Python of version 3.11 or newer$old"
  fail "no Python of version 3.11 or newer found$old;" \
    "install one, or name it: PYTHON=/path/to/python3 $0"
}

# Says why .venv has to be made anew; nothing when it can be kept.
why_anew() {
  local stamp
  if [[ -e $under_way ]]; then
    echo 'an earlier set-up was interrupted'
  elif [[ ! $("$python" -I -c "$probe" 2>/dev/null) =~ ^(good|bare) ]]; then
    echo 'the Python of .venv is gone or too old'
  else
    for stamp in "$venv"/fastbp-*.stamp; do # the programs in a venv name its folder
      [[ ! -f $stamp || $(<"$stamp") == "set "*" in $root"$'\n'* ]] || echo 'the folder has moved'
    done | sort -u
    "$python" -I -c 'import pip' 2>/dev/null ||
      "$python" -I -m ensurepip >/dev/null 2>&1 || echo '.venv has no pip'
  fi
}

# The members of dependency group $2 of the pyproject.toml $1, for pips that know no --group.
group_requirements() {
  "$python" -I - "$1" "$2" <<'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    groups = tomllib.load(file)["dependency-groups"]


def show(name):
    for item in groups[name]:
        print(item) if isinstance(item, str) else show(item["include-group"])


show(sys.argv[2])
PYTHON
}

pip_install() {
  local log=$venv/fastbp-setup.log error
  local arguments=(--editable '.[cli]')
  if [[ $1 == dev ]]; then
    group_requirements "$root/pyproject.toml" dev >"$venv/fastbp-dev.txt"
    arguments=(--editable '.[all]' --requirement "$venv/fastbp-dev.txt")
  fi
  say "installing fastbp and what it needs into .venv (this once; it may take some minutes) ..."
  if ! (cd "$root" && PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 \
    "$python" -I -m pip install "${arguments[@]}" </dev/null >"$log" 2>&1); then
    # A pip that had not begun to install left everything as it was; any other leaves its mark.
    grep -q '^Installing collected packages' "$log" || rm -f "$under_way"
    error=$(sed -n 's/^ *ERROR: //p' "$log" | head -n 1)
    ! grep -q 'Retrying (' "$log" || error="$error - is there a network?"
    fail "pip could not install the packages: ${error:-no reason given} (all of it: $log)"
  fi
}

set_up() {
  local base_python='' reason set
  is_set_up "$1" && return
  if "$python" -I -c '' 2>/dev/null; then
    base_python=$python
  else
    find_python
  fi

  # One set-up at a time. The lock is on this open file, and goes with the last process that
  # has it; where the file system has no locks there is none.
  exec 9<"$root/pyproject.toml"
  "$base_python" -I -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(sys.argv[1] + ": waiting for another set-up to end ...", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass' "$me"
  if ! is_set_up "$1"; then
    if [[ -e $venv || -L $venv ]]; then
      reason=$(why_anew)
      if [[ -n $reason ]]; then
        say "$reason: making .venv anew"
        [[ $base_python != "$python" ]] || find_python
        rm -rf "$venv"
      fi
    fi
    mkdir -p "$venv"
    : >"$under_way"
    if [[ ! -x $python ]]; then
      [[ $base_python != "$python" ]] || find_python
      say "making .venv with $("$base_python" --version)"
      reason=$("$base_python" -m venv "$venv" 2>&1) || {
        rm -rf "$venv"
        fail "could not make .venv: ${reason##*$'\n'}"
      }
    fi
    pip_install "$1"
    for set in train "$1"; do # dev holds all of train
      stamp_text "$set" >"$venv/fastbp-$set.stamp"
    done
    rm -f "$under_way"
  fi
  exec 9<&-
}
