# provision.sh: what Fujin would fetch from elsewhere, put in place by hand: packages, uv, Caddy, PostgreSQL, the environment.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends caddy ca-certificates postgresql python3-venv rsync >/dev/null
python3 -m venv /opt/uv
/opt/uv/bin/pip -q --disable-pip-version-check --cert=/etc/ssl/certs/ca-certificates.crt install --no-cache-dir uv==0.13.8
install -d -o deploy -g deploy /home/deploy/.local /home/deploy/.local/bin /opt/fujin
ln -sfn /opt/uv/bin/uv /home/deploy/.local/bin/uv
install -d /etc/uv
printf 'system-certs = true\n' >/etc/uv/uv.toml
useradd --system --user-group --no-create-home --shell /usr/sbin/nologin notes
usermod -aG notes caddy
(cd / && runuser -u postgres -- psql -qc 'create role notes login' -c 'create database notes owner notes')
install -d -o deploy -g notes -m 775 /opt/fujin/notes /opt/fujin/notes/.install
install -d -o notes -g notes -m 750 /opt/fujin/notes/uploads
install -d /etc/notes /etc/caddy/conf.d
# The system's Python, so that none is downloaded; Fujin uses an environment that it finds.
uv=/opt/uv/bin/uv
$uv --no-config venv --quiet --python /usr/bin/python3 /opt/fujin/notes/.install/.venv
ln -sfn "$(echo /opt/fujin/notes/.install/.venv/lib/python3*)/site-packages/notes/static" /opt/fujin/notes/static
printf 'import conf.d/*.caddy\n' >/etc/caddy/Caddyfile
systemctl -q enable --now caddy
systemctl restart caddy
