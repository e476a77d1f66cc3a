# build.sh: what Fujin runs before it uploads: the app as a wheel that knows its commit, and its locked dependencies.
set -eu
rm -rf dist
commit=$(git rev-parse --short=8 HEAD)
printf '__version__ = "1.0.0+g%s"\nCOMMIT = "%s"\n' "$commit" "$commit" >notes/release.py
uv build --quiet --wheel
uv export --quiet --frozen --no-dev --no-emit-project --output-file requirements.txt
