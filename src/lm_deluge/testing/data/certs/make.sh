#!/bin/sh
# Makes the test certificates from scratch: an authority, a server certificate for "localhost" alone, and another authority.
# They are for tests on the loopback interface only; no key of an authority is kept.
set -eu
cd "$(dirname "$0")"
authority() { # name, subject
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$2" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" -keyout "$1.key" -out "$1.pem"
}
authority ca "lm_deluge test authority"
authority other-ca "another authority"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' > server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile server.ext -out server.pem -days 36500
rm -f ca.key other-ca.key ./*.csr ./*.ext ./*.srl
