# method.sh METHOD: make the unit of the shell script's host ready to be switched by restart, reload (HUP) or socket.
set -euo pipefail
drop=/etc/systemd/system/notes.service.d
site=/etc/nginx/sites-enabled/notes.conf
install -d $drop
rm -f $drop/* /etc/systemd/system/notes.socket
systemctl stop notes.socket 2>/dev/null || true
sed -i 's|unix:[^ ]*|unix:/run/notes/gunicorn.sock|' $site
run="/srv/notes/current/.venv/bin/gunicorn --config /etc/notes/gunicorn.conf.py"
case $1 in
  restart) ;;
  HUP) printf '[Service]\nExecStart=\nExecStart=%s --chdir /srv/notes/current wsgi:app\n' "$run" >$drop/method.conf ;;
  socket)
    printf '[Socket]\nListenStream=/run/notes.sock\nSocketUser=notes\nSocketGroup=www-data\nSocketMode=0660\n' \
      >/etc/systemd/system/notes.socket
    printf '[Unit]\nRequires=notes.socket\nAfter=notes.socket\n' >$drop/method.conf
    sed -i 's|unix:[^ ]*|unix:/run/notes.sock max_fails=0;|; s|max_fails=0; max_fails=0;|max_fails=0;|' $site
    ;;
esac
systemctl daemon-reload
systemctl stop notes
[ "$1" != socket ] || systemctl start notes.socket
systemctl start notes
nginx -qt
systemctl reload nginx
