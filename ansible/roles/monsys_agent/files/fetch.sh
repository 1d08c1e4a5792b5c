#!/bin/sh
# fetch.sh URL FILE SHA256 CA_FILE: fetches and verifies a file. The last two may be empty. Only an
# http:// URL may be redirected to http://. The settings of curl and wget in the user's home do not apply
# (-q is curl's first argument), since the agent does not read them.
set -eu
url=$1 file=$2 wanted=$3 ca=$4
case $url in
http://*) protocols='=http,https' redirects=20 ;;
*) protocols='=https' redirects=0 ;; # wget's --https-only does not apply to redirects
esac
case $url in
file://*)
  # A read of a pipe may block forever, and a device may have no end.
  if [ -e "${url#file://}" ] && [ ! -f "${url#file://}" ]; then
    echo "$url is not a regular file" >&2
    exit 69
  fi
  cp "${url#file://}" "$file"
  ;;
*)
  if command -v curl >/dev/null 2>&1; then
    curl -q -fsSL --proto "$protocols" --tlsv1.2 --retry 3 --connect-timeout 30 --speed-limit 1 \
      --speed-time 60 ${ca:+--cacert "$ca"} -o "$file" "$url"
  elif wget --help 2>&1 | grep -q -e --ca-certificate; then
    code=0
    : >"$file" # an empty file takes the place of ~/.wgetrc; /etc/wgetrc still applies
    WGETRC=$file WGET2RC=$file wget -nv -t 3 -T 60 --max-redirect="$redirects" ${ca:+--ca-certificate="$ca"} -O "$file" "$url" || code=$?
    [ "$code" != 8 ] || echo 'wget follows no redirect from https: set the final address, or install curl' >&2
    [ "$code" = 0 ] || exit "$code"
  elif ! command -v wget >/dev/null 2>&1; then
    echo 'neither curl nor wget is installed: install one of them, or copy a file from the controller' >&2
    exit 69
  else
    # BusyBox wget verifies no certificate and follows any redirect, and Debian 12's fails with -T.
    case $url in
    http://*) ;;
    *) [ -n "$wanted" ] || {
      echo 'BusyBox wget verifies no certificate: install curl or GNU wget, or copy a file from the controller' >&2
      exit 69
    } ;;
    esac
    wget -q -O "$file" "$url"
  fi
  ;;
esac
chmod 700 "$file"
[ -n "$wanted" ] || exit 0
found=$(sha256sum <"$file")
found=${found%% *}
[ "$found" = "$wanted" ] && exit 0
echo "the SHA-256 of $url is $found, and monsys_agent_checksum is $wanted" >&2
exit 76
