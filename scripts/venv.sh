#!/usr/bin/env bash
# Makes .venv hold what uv.lock says, or ends at once when it does. scripts/venv.sh --dev adds the tools for
# Zarpar's own tests. Needs Python 3.11 or newer; uv is used where it is installed, else installed into .venv.
set -euo pipefail

UV_VERSION=0.13.8

fail() {
  echo "error: $1" >&2
  echo "  next: $2" >&2
  exit 2
}

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Zarpar needs Python 3.11 to 3.14, and there is none" "install one, such as: apt-get install python3"
}

# Debian keeps the parts that make virtual environments in a package of their own.
need_venv_module() {
  local python=$1 package
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    return
  fi
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "zarpar: installing $package" >&2
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$package" >&2
  else
    fail "$python cannot make virtual environments" "run: sudo apt-get install $package (or your system's like)"
  fi
}

install_uv() {
  local python
  python=$(find_python)
  need_venv_module "$python"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" >&2
}

main() {
  local root venv stamp have want groups=--no-dev uv
  root=$(readlink -f "${BASH_SOURCE[0]}")
  root=${root%/scripts/*}
  venv=$root/.venv
  stamp=$venv/.zarpar
  want="$root $(cd "$root" && cksum uv.lock pyproject.toml)"
  have=$(cat "$stamp" 2>/dev/null || true)
  if [ "${1:-}" = --dev ]; then
    want="dev $want"
    groups=--dev
  fi
  if [ -x "$venv/bin/python" ] && { [ "$have" = "$want" ] || [ "$have" = "dev $want" ]; }; then
    return
  fi

  echo "zarpar: making .venv from uv.lock" >&2
  # programs in a virtual environment hold its path, and its interpreter may be gone
  if [ ! -x "$venv/bin/python" ] || [[ -n "$have" && "${have#dev }" != "$root "* ]]; then
    rm -rf "$venv"
  fi
  uv=uv
  if ! uv --version >/dev/null 2>&1; then
    uv=$venv/bin/uv
    [ -x "$uv" ] || install_uv
  fi
  unset VIRTUAL_ENV
  # --inexact: tools that a developer added stay; compiled now, because a read-only or
  # PYTHONDONTWRITEBYTECODE setting would else make every later start slow
  UV_PROJECT_ENVIRONMENT=$venv \
    "$uv" sync --quiet --frozen --inexact --compile-bytecode "$groups" --project "$root" >&2
  echo "$want" >"$stamp.new"
  mv "$stamp.new" "$stamp"
}

main "$@"
