#!/bin/sh
# Installs monsys-agent at the first boot. This script fetches install.sh, checks that the file is
# complete, and runs it with the settings in the same folder. Then it removes the token and all files.
# After a failure the files stay, and the same command retries:
#     sh /var/lib/monsys-boot/boot.sh
# Settings are data, one NAME=VALUE a line. A value is used literally and never executed.
set -u
umask 077

DIR=${MONSYS_BOOT_DIR:-/var/lib/monsys-boot}
# cloud-init runs this file. A success removes it, so that no copy of this disk runs it.
HOOK=${MONSYS_BOOT_HOOK:-/var/lib/cloud/scripts/per-instance/monsys-agent}
SETTINGS=$DIR/settings
INSTALLER=$DIR/install.sh

main() {
  tags='' install_url=https://get.monsys.ai/install.sh install_sha256='' tries=12
  sha256_x86_64='' sha256_aarch64=''
  [ -f "$SETTINGS" ] ||
    fail 78 "there is no $SETTINGS" 'write the file again: cloud-init clean --logs && reboot'
  chmod 700 "$DIR" || fail 73 "the mode of $DIR could not be set" 'run this as root'
  set --
  while IFS= read -r line || [ -n "$line" ]; do
    value=${line#*=}
    case $line in
    '' | '#'*) ;;
    ARGUMENT=*) set -- "$@" "$value" ;;
    *) take "${line%%=*}" "$value" ;;
    esac
  done <"$SETTINGS"
  [ -z "$tags" ] || export "MONSYS_TAGS=$tags"
  [ -z "${HTTPS_PROXY:-}" ] || export "https_proxy=$HTTPS_PROXY"
  [ -z "${NO_PROXY:-}" ] || export "no_proxy=$NO_PROXY"
  choose_checksum
  fetch_with_patience
  check_installer
  code=0
  sh "$INSTALLER" "$@" || code=$?
  case $code in
  0) ;;
  75) say 'this host was enrolled before, and the hub does not confirm it now; the service retries' ;;
  *)
    if [ "$code" != 74 ] || ! is_enrolled; then
      fail "$code" "install.sh ended with $code; its error is above" 'fix the cause'
    fi
    say "this host is enrolled, but install.sh ended with 74; its error above names the open step"
    ;;
  esac
  clean_up
  [ "$code" != 74 ] || exit 74
}

# A run that never reached the hub can also end with 74.
is_enrolled() {
  for program in monsys-agent /opt/monsys/bin/monsys-agent /var/opt/monsys/bin/monsys-agent; do
    command -v "$program" >/dev/null || continue
    "$program" status >/dev/null 2>&1 || [ $? = 75 ] || continue
    return 0
  done
  return 1
}

# take NAME VALUE: applies one line of the settings. An empty value counts as not given.
take() {
  case $1 in
  *[!A-Z0-9_a-z]*) fail 78 "a line of $SETTINGS is not NAME=VALUE" "edit $SETTINGS" ;;
  esac
  [ -n "$2" ] || return 0
  case $1 in
  TAG) tags=$tags${tags:+,}$2 ;;
  INSTALL_URL) install_url=$2 ;;
  INSTALL_SHA256) install_sha256=$2 ;;
  SHA256_x86_64) sha256_x86_64=$2 ;;
  SHA256_aarch64) sha256_aarch64=$2 ;;
  TRIES) tries=$2 ;;
  MONSYS_* | HTTPS_PROXY | NO_PROXY) export "$1=$2" ;;
  *) fail 78 "$SETTINGS has the unknown setting $1" "edit $SETTINGS" ;;
  esac
}

# Chooses the pinned checksum of the agent's binary for this machine, if checksums are pinned.
choose_checksum() {
  [ -n "$sha256_x86_64$sha256_aarch64" ] || return 0
  machine=$(uname -m)
  case $machine in
  x86_64 | amd64) wanted=$sha256_x86_64 ;;
  aarch64 | arm64) wanted=$sha256_aarch64 ;;
  *) wanted='' ;;
  esac
  [ -n "$wanted" ] ||
    fail 78 "checksums are pinned, but none for $machine" "add SHA256_$machine=HEX to $SETTINGS"
  export "MONSYS_SHA256=$wanted"
}

# The network may start late, and the clock may be wrong at first. The script counts tries, because the
# clock may jump.
fetch_with_patience() {
  try=1 pause=1
  until fetch; do
    # curl prints its error first and advice later; the others print the error last.
    said=$(sed -n '/^curl: /{p;q;}' "$DIR/fetch.log")
    [ -n "$said" ] || said=$(tail -n 1 "$DIR/fetch.log")
    case $said in
    *' 401'* | *' 403'* | *' 404'* | *' 410'* | *' is not a regular file') try=$tries ;;
    esac
    [ "$try" -lt "$tries" ] ||
      fail 69 "$install_url could not be fetched: $said" "make this URL reachable from this host"
    say "$install_url: $said; try $try of $tries, the next in $pause s"
    sleep "$pause"
    try=$((try + 1)) pause=$((pause * 2))
    [ "$pause" -le 30 ] || pause=30
  done
}

# Tries once with the given CA. If that CA did not sign the server's certificate, it tries with the
# CAs of the system. The download programs do not get the secret.
fetch() (
  unset MONSYS_TOKEN
  exec 2>"$DIR/fetch.log"
  case $install_url in
  file://*)
    file=${install_url#file://}
    # A read of a pipe may block forever, and a device may have no end.
    if [ -e "$file" ] && [ ! -f "$file" ]; then
      echo "$file is not a regular file" >&2
      return 1
    fi
    cat -- "$file" >"$INSTALLER"
    return
    ;;
  esac
  if [ -n "${MONSYS_CA_FILE:-}" ]; then
    get "$MONSYS_CA_FILE" && return
    grep -qi certificate "$DIR/fetch.log" || return
  fi
  get ''
)

# get CA: downloads with the program that exists; cloud-init itself needs Python. Only an http: URL may
# be redirected to http:. GNU wget's --https-only does not apply to redirects, so wget follows none.
get() {
  if command -v curl >/dev/null; then
    set -- ${1:+--cacert "$1"}
    case $install_url in
    http:*) set -- "$@" --proto =http,https ;;
    *) set -- "$@" --proto =https --tlsv1.2 ;;
    esac
    curl --fail --silent --show-error --location --connect-timeout 10 --max-time 120 "$@" \
      --output "$INSTALLER" "$install_url"
  elif wget --version 2>/dev/null | grep -q 'GNU Wget'; then
    set -- ${1:+--ca-certificate="$1"}
    case $install_url in http:*) ;; *) set -- "$@" --max-redirect=0 ;; esac
    wget --no-verbose --tries=1 --timeout=30 "$@" --output-document="$INSTALLER" "$install_url" && return
    ! grep -q '^0 redirections exceeded' "$DIR/fetch.log" ||
      echo 'this URL is a redirect, and wget follows none from https: add curl to the image, or set the final URL' >&2
    return 1
  elif command -v python3 >/dev/null; then
    python3 -c '
import ssl, sys, urllib.request
url, ca, file = sys.argv[1:]
class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, to):
        if not url.startswith("http:") and not to.startswith("https:"):
            sys.exit("the server redirects to a URL without TLS")
        return super().redirect_request(request, answer, code, message, headers, to)
try:
    trust = ssl.create_default_context(cafile=ca or None)
    if hasattr(ssl, "TLSVersion"):
        trust.minimum_version = ssl.TLSVersion.TLSv1_2
    https = urllib.request.HTTPSHandler(context=trust)
    with urllib.request.build_opener(https, Redirects).open(url, timeout=30) as answer:
        open(file, "wb").write(answer.read())
except Exception as why:
    sys.exit(str(why))' "$install_url" "$1" "$INSTALLER"
  else
    echo 'no curl, GNU wget or python3 is installed: add one of them to the image' >&2
    return 127
  fi
}

# A captive portal answers with its own page, and half a script does half the work.
check_installer() {
  case $(head -n 1 "$INSTALLER") in
  '#!'*) ;;
  *) fail 76 "the file from $install_url is not a script" "inspect $INSTALLER" ;;
  esac
  # The last line of a complete script calls main.
  # shellcheck disable=SC2016 # the pattern is literal text
  case $(tail -n 1 "$INSTALLER") in
  *main*'"$@"' | *main*'"$@"; }') sh -n "$INSTALLER" ;;
  *) false ;;
  esac || fail 76 "the file from $install_url is incomplete" "inspect $INSTALLER"
  [ -n "$install_sha256" ] || return 0
  found=$(sha256 "$INSTALLER") || fail 69 'no sha256sum is installed' 'add sha256sum to the image'
  [ "$found" = "$install_sha256" ] ||
    fail 76 "install.sh has the SHA-256 $found, and $install_sha256 is pinned" \
      'find out who changed the file, or pin the new SHA-256'
}

sha256() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1" | cut -c 1-64
  else
    openssl dgst -sha256 -r <"$1" | cut -c 1-64
  fi
}

# Overwrites the token before its file is removed.
clean_up() {
  bytes=$(wc -c <"$SETTINGS")
  dd if=/dev/zero of="$SETTINGS" bs="$bytes" count=1 conv=notrunc,fsync 2>/dev/null
  rm -rf "$HOOK" "$DIR" && return
  say "this host is enrolled, but $DIR could not be removed: rm -rf $HOOK $DIR"
  exit 73
}

say() {
  echo "monsys boot: $*" >&2
}

# fail CODE ERROR HINT
fail() {
  say "this host is not enrolled: $2
  $3, then: sh $DIR/boot.sh
  To give up, and remove the token: rm -rf $DIR $HOOK"
  exit "$1"
}

main
