#!/bin/sh
# Makes, once, a small CA and a certificate for Pebble's own HTTPS API.
set -eu
cd /etc/pebble
[ ! -e tls.pem ] || exit 0
# Python 3.13 refuses a CA without these usages.
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Zarpar lab, API of Pebble" \
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=pki -keyout tls.key -out tls.csr
cat > extensions <<END
subjectAltName=DNS:pki,DNS:localhost,IP:127.0.0.1
basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
END
openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile extensions -out tls.new
mv tls.new tls.pem
