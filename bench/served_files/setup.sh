# setup.sh SLOT: beside the app that Zarpar serves, prepare the same tree and environment for other servers.
set -euo pipefail
slot=$1
export DEBIAN_FRONTEND=noninteractive UV_SYSTEM_CERTS=true UV_CACHE_DIR=/var/cache/uv UV_PYTHON_DOWNLOADS=never
apt-get -qq install --no-install-recommends wrk >/dev/null

install -d /srv/lesson /var/log/gunicorn -o notes -g notes
cp -a "$(readlink -f /srv/notes/live/tree)/." /srv/lesson/
chmod -R a+rX /srv/lesson
cd /srv/lesson
uv --no-config sync --quiet --frozen --no-dev --compile-bytecode --python /usr/bin/python3
uv --no-config pip install --quiet --python .venv/bin/python granian==2.8.7

unit=/etc/systemd/system/zarpar-notes@.service
cat >/etc/systemd/system/lesson.service <<UNIT
[Service]
Type=notify
User=notes
EnvironmentFile=/etc/zarpar/apps/notes/slots/$slot
WorkingDirectory=/srv/lesson
ExecStart=/srv/lesson/.venv/bin/gunicorn -c /etc/lesson.conf.py wsgi:app
UNIT
# granian in the unit of the product: only the program, its place and how it says that it is ready differ.
sed -e 's|^ExecStart=.*|ExecStart=/srv/lesson/.venv/bin/granian --interface wsgi --uds ${RUNTIME_DIRECTORY}/granian.sock --uds-permissions 432 --workers 2 --blocking-threads 2 --working-dir /srv/lesson --no-ws --access-log wsgi:app|' \
  -e 's/^Type=.*/Type=exec/' -e "s/%i/$slot/" -e "s/notes-$slot\$/notes-granian/" $unit >/etc/systemd/system/granian.service

# The product's own site once more on another port, to granian's socket.
site=/etc/nginx/sites-enabled/zarpar-notes.conf
name=$(sed -n 's/^upstream \(.*\) {$/\1/p' $site)
sed -e "s/$name/${name}_granian/g" -e 's|/srv/notes/live/socket|/run/zarpar/notes-granian/granian.sock|' \
  -e 's/listen \(.*\)80;/listen \18082;/' $site >/etc/nginx/sites-enabled/granian.conf
systemctl daemon-reload
nginx -qt
systemctl reload nginx
