# switch.sh METHOD MARK: make a release whose answer is MARK from the live one, and switch to it.
set -euo pipefail
live=$(readlink -f /srv/notes/current)
new=/srv/notes/releases/$2
cp -a "$live" "$new"
sed -i "s/^MARK = .*/MARK = \"$2\"/" "$new/wsgi.py"
rm -rf "$new/__pycache__"
ln -sfn "$new" /srv/notes/current.new
mv -T /srv/notes/current.new /srv/notes/current
case $1 in
  HUP) systemctl reload notes ;;
  *) systemctl restart notes ;;
esac
