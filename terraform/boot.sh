#!/bin/sh
# Installs monsys-agent at the first boot. This script fetches install.sh, checks that the file is
# complete, and runs it with the settings in the same folder. Then it removes the token and all files.
# After a failure that may pass, a service of systemd tries again until the host is enrolled, also after
# a reboot. The same command tries at once, and give-up removes the settings with the token:
#     sh /var/lib/monsys-boot/boot.sh [give-up]
# Settings are data, one NAME=VALUE a line. A value is used literally and never executed.
set -u
umask 077

DIR=/var/lib/monsys-boot
SETTINGS=$DIR/settings
INSTALLER=$DIR/install.sh
STATE=$DIR/state # for `monsys-agent status`
# cloud-init runs the link at each boot. A success removes both, so that no copy of this disk runs them.
HOOK=/var/lib/cloud/scripts/per-boot/monsys-agent
HOOK_FILE=/etc/monsys-boot
SERVICE=monsys-agent-boot.service
UNIT=/etc/systemd/system/$SERVICE
MODE=${1:-now}

main() {
  tags='' install_url=https://get.monsys.ai/install.sh install_sha256='' tries=12 token=''
  sha256_x86_64='' sha256_aarch64=''
  need_settings
  chmod 700 "$DIR" || fail 73 "the mode of $DIR could not be set" 'run this as root'
  case $MODE in
  give-up) give_up ;;
  retry) retry ;;
  at-boot) # After a final failure only an operator tries again, but each boot reports it.
    [ "$(noted state)" != final ] || report_final "$(noted code)" "$(noted error)" 'fix the cause'
    ;;
  esac
  if command -v flock >/dev/null; then
    exec 9>"$DIR/lock"
    flock -n 9 || {
      say 'another run is trying; this one waits for its end'
      flock 9
    }
    need_settings
  fi
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
  [ "$MODE" != again ] || tries=1 # the pause between two runs of the service is longer
  choose_checksum
  fetch_with_patience
  check_installer
  # The status of a pipe is that of tee. Only the installer gets the token.
  {
    code=0 && run_installer "$@" || code=$?
    echo "$code" >"$DIR/code"
  } 2>&1 | tee "$DIR/install.log" >&2
  code=$(cat "$DIR/code")
  case $code in
  0) ;;
  74 | 75)
    is_enrolled || fail_install
    [ "$code" = 75 ] ||
      say "this host is enrolled, but install.sh ended with 74; its error above names the open step"
    [ "$code" = 74 ] ||
      say 'this host was enrolled before, and the hub does not confirm it now; the service retries'
    ;;
  *) fail_install ;;
  esac
  erase || {
    say "this host is enrolled, but $DIR could not be removed: rm -rf $HOOK $HOOK_FILE $DIR"
    exit 73
  }
  [ "$code" != 74 ] || exit 74
}

# Ends this run if another one has enrolled the host, and removed the settings.
need_settings() {
  [ -f "$SETTINGS" ] && return
  ! is_enrolled || exit 0
  fail 78 "there is no $SETTINGS" 'write the file again: cloud-init clean --logs && reboot'
}

run_installer() (
  [ -z "$token" ] || export "MONSYS_TOKEN=$token"
  exec sh "$INSTALLER" "$@" 9>&-
)

fail_install() {
  why=$(sed -n 's/^error: //p' "$DIR/install.log" | tail -n 1)
  fail "${code:-74}" "install.sh ended with ${code:-74}${why:+: $why}" 'its error is above: fix the cause'
}

# A run that never reached the hub can also end with 74 or 75.
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
  PAUSE | LONGEST_PAUSE) ;; # for the service
  MONSYS_TOKEN) token=$2 ;;
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
# The settings of curl and wget in root's home do not apply, since the agent does not read them: -q is
# curl's first argument, and an empty file takes the place of ~/.wgetrc. /etc/wgetrc still applies.
get() {
  if command -v curl >/dev/null; then
    set -- ${1:+--cacert "$1"}
    case $install_url in
    http:*) set -- "$@" --proto =http,https ;;
    *) set -- "$@" --proto =https --tlsv1.2 ;;
    esac
    curl -q --fail --silent --show-error --location --connect-timeout 10 --max-time 120 "$@" \
      --output "$INSTALLER" "$install_url"
  elif wget --version 2>/dev/null | grep -q 'GNU Wget'; then
    set -- ${1:+--ca-certificate="$1"}
    case $install_url in http:*) ;; *) set -- "$@" --max-redirect=0 ;; esac
    : >"$INSTALLER"
    WGETRC=$INSTALLER WGET2RC=$INSTALLER wget --no-verbose --tries=1 --timeout=30 "$@" --output-document="$INSTALLER" "$install_url" && return
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
  *) fail 76 "the file from $install_url is not a script" "inspect $INSTALLER" passing ;;
  esac
  # The last line of a complete script calls main.
  # shellcheck disable=SC2016 # the pattern is literal text
  case $(tail -n 1 "$INSTALLER") in
  *main*'"$@"' | *main*'"$@"; }') sh -n "$INSTALLER" ;;
  *) false ;;
  esac || fail 76 "the file from $install_url is incomplete" "inspect $INSTALLER" passing
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

# Tries again and again, for the service. Each host has other pauses, and they grow.
retry() {
  pause=$(setting PAUSE) longest=$(setting LONGEST_PAUSE)
  pause=${pause:-30} longest=${longest:-1800}
  while
    random=$(od -An -N2 -tu2 /dev/urandom)
    wait=$((pause / 2 + random % (pause + 1)))
    note "$(grep -v '^next=' "$STATE")" "next=$(($(date +%s) + wait))"
    say "the next try is in $wait s"
    sleep "$wait"
    code=0
    sh "$DIR/boot.sh" again || code=$?
    [ -f "$SETTINGS" ] && [ "$(noted state)" != final ]
  do
    pause=$((pause * 2))
    [ "$pause" -le "$longest" ] || pause=$longest
  done
  exit "$code"
}

setting() {
  sed -n "s/^$1=//p" "$SETTINGS"
}

# noted NAME: prints a value of the state.
noted() {
  sed -n "s/^$1=//p" "$STATE" 2>/dev/null
}

# note LINE...: writes the state.
note() {
  printf '%s\n' "$@" >"$STATE.new" && mv -f "$STATE.new" "$STATE"
}

start_service() {
  if [ ! -d /run/systemd/system ]; then
    say 'there is no systemd here: the next boot of a host with cloud-init tries again'
    return
  fi
  [ -e "$UNIT" ] || (
    umask 022
    cat >"$UNIT" <<END
[Unit]
Description=enrolment of this host by monsys-agent, after a first boot without success
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/bin/sh $DIR/boot.sh retry
Restart=on-abnormal
RestartSec=1min

[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
  )
  systemctl enable --quiet --now --no-block "$SERVICE" || say "$SERVICE could not be started"
}

# The run that the service itself has started lets it end.
stop_service() {
  [ -e "$UNIT" ] || return 0
  systemctl disable --quiet "$SERVICE"
  [ "$MODE" = again ] || systemctl stop "$SERVICE"
}

# Overwrites the token before its file is removed.
erase() {
  stop_service
  bytes=$(wc -c <"$SETTINGS")
  dd if=/dev/zero of="$SETTINGS" bs="$bytes" count=1 conv=notrunc,fsync 2>/dev/null
  [ ! -e "$UNIT" ] || { rm "$UNIT" && systemctl daemon-reload && systemctl reset-failed "$SERVICE" 2>/dev/null; }
  rm -rf "$HOOK" "$HOOK_FILE" "$DIR"
}

# Prints the files that contain the token, which is in no argument.
places() {
  token=$(setting MONSYS_TOKEN 2>/dev/null)
  [ -z "$token" ] || printf '%s\n' "$token" |
    grep -rlF -f - "$DIR" /var/lib/cloud /run/cloud-init /var/log/cloud-init* 2>/dev/null | tr '\n' ' '
}

give_up() {
  found=$(places)
  found=$(echo "$found" | sed "s#$SETTINGS ##")
  erase || exit 73
  [ -n "$found" ] || exit 0
  say "the settings are removed, and the token is still in $found: remove these files, or revoke the token"
  exit 74
}

say() {
  echo "monsys boot: $*" >&2
}

# fail CODE ERROR HINT [passing]: passing is for a code that is final in other places.
fail() {
  case $1${4-} in
  64 | 65 | 73 | 76 | 77 | 78) report_final "$@" ;;
  esac
  note state=trying "code=$1" "error=$2"
  say "this host is not enrolled yet: $2
  $3; to try at once: sh $DIR/boot.sh
  To give up, and remove the token: sh $DIR/boot.sh give-up"
  [ "$MODE" = again ] || start_service
  exit "$1"
}

# report_final CODE ERROR HINT
report_final() {
  [ ! -d "$DIR" ] || note state=final "code=$1" "error=$2"
  stop_service
  found=$(places)
  say "this host is not enrolled, and only an operator tries again: $2
  $3, then: sh $DIR/boot.sh${found:+
  The token is still in $found}
  To give up, and remove the token: sh $DIR/boot.sh give-up"
  exit "$1"
}

main
