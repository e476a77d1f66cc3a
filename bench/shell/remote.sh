# remote.sh VERB COMMIT FOLDER: runs on the host as root. Does only what is missing, and tells how many things it changed.
set -euo pipefail
verb=$1 commit=$2 folder=$3
app=notes domain=notes.example.test keep=5
packages=(ca-certificates certbot logrotate openssl postgresql python3 python3-venv nginx
  ssl-cert sudo tzdata unattended-upgrades)
uv=/opt/uv/0.13.8/bin/uv
export UV_SYSTEM_CERTS=true UV_CACHE_DIR=/var/cache/uv UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
changed=0
reload=() # units to reload or restart at the end of provisioning

say() { changed=$((changed + 1)); echo "changed: $*"; }

# put SOURCE TARGET [MODE GROUP]: install a file that differs
put() {
  if ! cmp -s "$folder/$1" "$2"; then
    install -D -m "${3:-644}" -g "${4:-root}" "$folder/$1" "$2"
    say "$2"
    return 0
  fi
  return 1
}

dir() { # dir PATH OWNER GROUP MODE
  if [ "$(stat -c %U:%G:%a "$1" 2>/dev/null)" != "$2:$3:$4" ]; then
    install -d -o "$2" -g "$3" -m "$4" "$1"
    say "$1"
  fi
}

provision() {
  local missing=() version
  put apt.conf /etc/apt/apt.conf.d/90notes || true
  put needrestart.conf /etc/needrestart/conf.d/notes.conf || true
  put createcluster.conf /etc/postgresql-common/createcluster.d/notes.conf || true
  mapfile -t missing < <(comm -13 <(dpkg-query -Wf '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii //p' | sort) \
    <(printf '%s\n' "${packages[@]}" | sort))
  if [ ${#missing[@]} != 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null
    say "${#missing[@]} packages"
  fi
  if [ "$(readlink /etc/localtime)" != /usr/share/zoneinfo/Etc/UTC ]; then
    ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime
    say /etc/localtime
  fi
  if put journald.conf /etc/systemd/journald.conf.d/notes.conf; then systemctl restart systemd-journald; fi

  version=$(ls /usr/lib/postgresql)
  if put postgresql.conf "/etc/postgresql/$version/main/conf.d/notes.conf"; then
    systemctl restart "postgresql@$version-main"
  fi
  if [ "$(cd / && runuser -u postgres -- psql -qtAc "select count(*) from pg_database where datname = '$app'")" != 1 ]; then
    (cd / && runuser -u postgres -- psql -qc "create role $app login" -c "create database $app owner $app")
    say "database $app"
  fi

  if [ ! -x $uv ]; then
    python3 -m venv /opt/uv/.new
    /opt/uv/.new/bin/pip -q --disable-pip-version-check --cert=/etc/ssl/certs/ca-certificates.crt \
      install --no-cache-dir --no-deps uv==0.13.8
    mv -T /opt/uv/.new /opt/uv/0.13.8
    say uv
  fi

  if ! id $app >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /srv/$app --shell /usr/sbin/nologin $app
    say "user $app"
  fi
  case " $(id -nG www-data) " in
    *" $app "*) ;;
    *) usermod -aG $app www-data; reload+=(restart:nginx); say "www-data in $app" ;;
  esac
  dir /srv/$app root $app 750
  dir /srv/$app/releases root $app 750
  dir /srv/$app/shared $app $app 750
  dir /srv/$app/shared/uploads $app $app 750
  dir /etc/$app root $app 750
  put env /etc/$app/env 600 || true
  put gunicorn.conf.py /etc/$app/gunicorn.conf.py 640 $app || true
  if put app.service /etc/systemd/system/$app.service; then systemctl daemon-reload; fi

  local site=0
  put http.conf /etc/nginx/conf.d/$app.conf && site=1
  put headers.conf /etc/nginx/snippets/$app-headers.conf && site=1
  put proxy.conf /etc/nginx/snippets/$app-proxy.conf && site=1
  put unavailable.html /var/www/$app/unavailable.html || true
  put site.conf /etc/nginx/sites-enabled/$app.conf && site=1
  if [ -e /etc/nginx/sites-enabled/default ]; then rm /etc/nginx/sites-enabled/default; site=1; fi
  if [ $site = 1 ]; then nginx -qt; reload+=(reload:nginx); fi
  case " ${reload[*]} " in
    *restart:nginx*) systemctl restart nginx ;;
    *reload:nginx*) systemctl reload-or-restart nginx ;;
  esac
  local unit
  for unit in nginx postgresql certbot.timer; do
    if ! systemctl -q is-enabled $unit || ! systemctl -q is-active $unit; then systemctl -q enable --now $unit; say $unit; fi
  done
}

healthy() { # healthy COMMIT: nginx serves that release
  local try
  for try in $(seq 600); do
    if curl_free "$1"; then return 0; fi
    sleep 0.05
  done
  echo "the release $1 does not answer" >&2
  return 1
}

# Asks through nginx with bash alone.
curl_free() {
  local answer
  exec 9<>/dev/tcp/127.0.0.1/80 || return 1
  printf 'GET /health HTTP/1.0\r\nHost: %s\r\n\r\n' $domain >&9
  answer=$(cat <&9)
  exec 9>&-
  case $answer in *" 200 OK"*"\"release\":\"$1\""*) return 0 ;; *) return 1 ;; esac
}

switch() { # switch COMMIT
  ln -sfn "releases/$1" /srv/$app/current.new
  mv -T /srv/$app/current.new /srv/$app/current
  systemctl -q enable $app
  systemctl restart $app
  healthy "$1"
}

release() {
  local target=/srv/$app/releases/$commit current old
  current=$(basename "$(readlink /srv/$app/current || true)")
  if [ "$current" = "$commit" ]; then
    if ! systemctl -q is-active $app; then systemctl start $app; say "$app started"; fi
    healthy "$commit"
    return
  fi
  umask 022
  if [ ! -e "$target/release.env" ]; then
    rm -rf "$target"
    mkdir "$target"
    tar xf "$folder/src.tar" -C "$target" --no-same-owner
    (cd "$target" && $uv sync --quiet --frozen --no-dev --compile-bytecode --python /usr/bin/python3)
    echo "ZARPAR_RELEASE_ID=$commit" >"$target/release.env"
  fi
  (
    cd "$target"
    set -a
    # shellcheck source=/dev/null
    . /etc/$app/env
    runuser -u $app -- .venv/bin/flask --app wsgi db upgrade >/dev/null 2>&1
  )
  echo "$commit" >>/srv/$app/history
  switch "$commit"
  say "release $commit"
  for old in $(ls -1t /srv/$app/releases | grep -vx "$commit" | tail -n +$keep); do rm -rf "/srv/$app/releases/$old"; done
}

rollback() {
  local previous
  sed -i '$d' /srv/$app/history
  previous=$(tail -n 1 /srv/$app/history)
  switch "$previous"
  say "rollback to $previous"
}

case $verb in
  deploy) provision; release ;;
  release) release ;;
  rollback) rollback ;;
esac
echo "changed=$changed"
