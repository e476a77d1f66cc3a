# setup.sh SLOT: beside the app that Zarpar serves, prepare the same tree and environment as the lesson has it.
set -euo pipefail
slot=$1
export DEBIAN_FRONTEND=noninteractive UV_SYSTEM_CERTS=true UV_CACHE_DIR=/var/cache/uv UV_PYTHON_DOWNLOADS=never
apt-get -qq install --no-install-recommends wrk >/dev/null

install -d /srv/lesson /var/log/gunicorn -o notes -g notes
cp -a "$(readlink -f /srv/notes/live/tree)/." /srv/lesson/
chmod -R a+rX /srv/lesson
cd /srv/lesson
uv --no-config sync --quiet --frozen --no-dev --compile-bytecode --python /usr/bin/python3

cat >/etc/systemd/system/lesson.service <<UNIT
[Service]
Type=notify
User=notes
EnvironmentFile=/etc/zarpar/apps/notes/slots/$slot
WorkingDirectory=/srv/lesson
ExecStart=/srv/lesson/.venv/bin/gunicorn -c /etc/lesson.conf.py wsgi:app
UNIT
systemctl daemon-reload
nginx -qt
systemctl reload nginx
