#!/bin/sh
# fetch.sh URL FILE SHA256 CA_FILE: fetches and verifies. The last two may be empty.
set -eu
url=$1 file=$2 wanted=$3 ca=$4
if command -v curl >/dev/null 2>&1; then
  curl -fsSL --retry 3 --connect-timeout 30 --speed-limit 1 --speed-time 60 \
    ${ca:+--cacert "$ca"} -o "$file" "$url"
elif command -v wget >/dev/null 2>&1; then
  wget -nv -t 3 -T 60 ${ca:+--ca-certificate="$ca"} -O "$file" "$url"
else
  echo 'there is neither curl nor wget: install one of them, or bring a file of the controller' >&2
  exit 69
fi
chmod 700 "$file"
[ -n "$wanted" ] || exit 0
found=$(sha256sum <"$file")
found=${found%% *}
[ "$found" = "$wanted" ] && exit 0
echo "$url is not the file of monsys_agent_checksum: its SHA-256 is $found, and it must be $wanted" >&2
exit 76
