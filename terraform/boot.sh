#!/bin/sh
# The first boot of a host with monsys-agent. It fetches install.sh, proves that it arrived whole,
# runs it with the settings that lie beside this script, and removes all of it, the token first.
# After a failure all of it stays, and the same command tries again:
#     sh /var/lib/monsys-boot/boot.sh
# Settings are data: one NAME=VALUE a line, taken as it is, never run. Nothing is quoted.
set -u
umask 077

DIR=${MONSYS_BOOT_DIR:-/var/lib/monsys-boot}
# What cloud-init runs. It is gone after a success, so that no copy of this disk runs it.
HOOK=${MONSYS_BOOT_HOOK:-/var/lib/cloud/scripts/per-instance/monsys-agent}
SETTINGS=$DIR/settings
INSTALLER=$DIR/install.sh

main() {
  tags='' install_url=https://get.monsys.ai/install.sh install_sha256='' tries=12
  sha256_x86_64='' sha256_aarch64=''
  [ -f "$SETTINGS" ] ||
    fail 78 "there is no $SETTINGS" 'write it anew: cloud-init clean --logs && reboot'
  chmod 700 "$DIR" || fail 73 "$DIR could not be closed to others" 'run this as root'
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
  75) say 'this host was enrolled before, and the hub has not confirmed it now; the service goes on trying' ;;
  *)
    if [ "$code" != 74 ] || ! is_enrolled; then
      fail "$code" "install.sh ended with $code; it said why above" 'fix what it names'
    fi
    say "this host is enrolled, but install.sh ended with 74; it said above what is left to do"
    ;;
  esac
  clean_up
  [ "$code" != 74 ] || exit 74
}

# 74 is also what a run ends with that never came as far as the hub.
is_enrolled() {
  for program in monsys-agent /opt/monsys/bin/monsys-agent /var/opt/monsys/bin/monsys-agent; do
    command -v "$program" >/dev/null || continue
    "$program" status >/dev/null 2>&1 || [ $? = 75 ] || continue
    return 0
  done
  return 1
}

# take NAME VALUE: one line of the settings. An empty value counts as not given.
take() {
  case $1 in
  *[!A-Z0-9_a-z]*) fail 78 "a line of $SETTINGS is no NAME=VALUE" "edit $SETTINGS" ;;
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

# The pinned checksum of the agent's binary for this machine, when there are any.
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

# The network may come up late, and so may the right time. The tries are counted, for the clock
# may jump.
fetch_with_patience() {
  try=1 pause=1
  until fetch; do
    # curl says what it is first, and advice after; the others say it last.
    said=$(sed -n '/^curl: /{p;q;}' "$DIR/fetch.log")
    [ -n "$said" ] || said=$(tail -n 1 "$DIR/fetch.log")
    case $said in
    *' 401'* | *' 403'* | *' 404'* | *' 410'* | *' is not a regular file') try=$tries ;;
    esac
    [ "$try" -lt "$tries" ] ||
      fail 69 "$install_url could not be fetched: $said" "make it reachable from this host"
    say "$install_url: $said; try $try of $tries, the next in $pause s"
    sleep "$pause"
    try=$((try + 1)) pause=$((pause * 2))
    [ "$pause" -le 30 ] || pause=30
  done
}

# One try, with the CA that was given, and with those of the system when that one does not vouch
# for the place. The secret is no concern of whatever fetches.
fetch() (
  unset MONSYS_TOKEN
  exec 2>"$DIR/fetch.log"
  case $install_url in
  file://*)
    file=${install_url#file://}
    # Reading a pipe may block for ever, and a device may have no end.
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

# get CA: with whatever is there. cloud-init itself runs on Python. Only a URL that is http: itself may
# lead to http:. GNU wget's --https-only does not apply to redirects, so wget follows none.
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
      echo 'it is a redirect, and wget follows none from https: put curl into the image, or name the last URL' >&2
    return 1
  elif command -v python3 >/dev/null; then
    python3 -c '
import ssl, sys, urllib.request
url, ca, file = sys.argv[1:]
class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, to):
        if not url.startswith("http:") and not to.startswith("https:"):
            sys.exit("it redirects to a place without TLS")
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
    echo 'there is no curl, GNU wget or python3: put one of them into the image' >&2
    return 127
  fi
}

# A portal answers with a page of its own, and half a script does half the work.
check_installer() {
  case $(head -n 1 "$INSTALLER") in
  '#!'*) ;;
  *) fail 76 "what came from $install_url is no script" "look at $INSTALLER" ;;
  esac
  # It ends with the call of all that is before it.
  # shellcheck disable=SC2016 # the line itself is meant
  case $(tail -n 1 "$INSTALLER") in
  *main*'"$@"' | *main*'"$@"; }') sh -n "$INSTALLER" ;;
  *) false ;;
  esac || fail 76 "what came from $install_url is not whole" "look at $INSTALLER"
  [ -n "$install_sha256" ] || return 0
  found=$(sha256 "$INSTALLER") || fail 69 'there is no sha256sum' 'put it into the image'
  [ "$found" = "$install_sha256" ] ||
    fail 76 "install.sh has the SHA-256 $found, and $install_sha256 is pinned" \
      'find out who changed it, or pin the new one'
}

sha256() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1" | cut -c 1-64
  else
    openssl dgst -sha256 -r <"$1" | cut -c 1-64
  fi
}

# The token is written over before its file goes.
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

# fail CODE WHAT MEND
fail() {
  say "this host is not enrolled: $2
  $3, then: sh $DIR/boot.sh
  To give up, and remove the token: rm -rf $DIR $HOOK"
  exit "$1"
}

main
