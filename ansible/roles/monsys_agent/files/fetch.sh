#!/bin/sh
# fetch.sh URL FILE SHA256 CA_FILE: fetches and verifies. The last two may be empty. Only a URL that
# is http:// itself may lead to http://.
set -eu
url=$1 file=$2 wanted=$3 ca=$4
case $url in
http://*) protocols='=http,https' redirects=20 ;;
*) protocols='=https' redirects=0 ;; # wget's --https-only does not apply to redirects
esac
case $url in
file://*)
  # Reading a pipe may block for ever, and a device may have no end.
  if [ -e "${url#file://}" ] && [ ! -f "${url#file://}" ]; then
    echo "$url is not a regular file" >&2
    exit 69
  fi
  cp "${url#file://}" "$file"
  ;;
*)
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --proto "$protocols" --tlsv1.2 --retry 3 --connect-timeout 30 --speed-limit 1 \
      --speed-time 60 ${ca:+--cacert "$ca"} -o "$file" "$url"
  elif wget --help 2>&1 | grep -q -e --ca-certificate; then
    code=0
    wget -nv -t 3 -T 60 --max-redirect="$redirects" ${ca:+--ca-certificate="$ca"} -O "$file" "$url" || code=$?
    [ "$code" != 8 ] || echo 'from https, wget follows no redirect: name the last address, or install curl' >&2
    [ "$code" = 0 ] || exit "$code"
  else # BusyBox's wget verifies no certificate, and follows any redirect
    echo 'there is neither curl nor GNU wget: install one of them, or bring a file of the controller' >&2
    exit 69
  fi
  ;;
esac
chmod 700 "$file"
[ -n "$wanted" ] || exit 0
found=$(sha256sum <"$file")
found=${found%% *}
[ "$found" = "$wanted" ] && exit 0
echo "$url is not the file of monsys_agent_checksum: its SHA-256 is $found, and it must be $wanted" >&2
exit 76
