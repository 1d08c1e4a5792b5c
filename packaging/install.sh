#!/bin/sh
# Installs monsys-agent as a service and enrols this host. The script is not interactive, and it ends
# with 0 only when the hub has accepted the host:
#
#   curl --proto '=https' --tlsv1.2 -fsSL https://get.monsys.ai/install.sh | MONSYS_TOKEN=enrl_... sh
#
# MONSYS_DOWNLOAD_URL  a folder with the files of a release: https://, http:// or file://
# MONSYS_VERSION       another version; needs MONSYS_SHA256=HEX, or minisign and a signed release
# MONSYS_VERIFY=strict requires the minisign signature of the release
# The agent's own variables (MONSYS_TOKEN, MONSYS_HUB_URL, MONSYS_TAGS...) and arguments
# (sh -s -- --no-start) are passed to `monsys-agent install`. See docs/install.md.

# A release sets these values, and so does a hub that is a mirror.
DEFAULT_VERSION='0.0.0'
DEFAULT_DOWNLOAD_URL='https://get.monsys.ai/releases/v0.0.0'
DEFAULT_HUB_URL=''
CHECKSUMS=''
MINISIGN_KEY=''

main() {
  set +x # the token is in the environment, and `set -x` would print it
  [ -z "${ZSH_VERSION-}" ] || emulate sh
  set -eu
  script=$1
  shift
  newline='
'
  token=${MONSYS_TOKEN-}
  unset MONSYS_TOKEN # only the agent gets the token, not curl or wget

  has() { command -v "$1" >/dev/null 2>&1; }
  fail() { # CODE ERROR CAUSE HINT
    printf 'error: %s\n  cause: %s\n  hint:  %s\n' "$2" "$3" "$4" >&2
    exit "$1"
  }
  is_file() { # Behind a pipe, $script is the shell's name; a file with that name is not this script.
    case ${script##*/} in
    *.sh) ;;
    *sh | *ksh* | *busybox) return 1 ;;
    esac
    [ -f "$script" ] && grep -q '^MINISIGN_KEY=' "$script"
  }
  line() { # NAMES ARGUMENTS...: prints the command line with sudo; sudo-rs ignores -E
    sudo="sudo --preserve-env=$1 sh"
    shift
    site=${DEFAULT_DOWNLOAD_URL%/releases/*}
    curl="curl --proto '=https' --tlsv1.2 -fsSL"
    case $site in http://*) curl='curl -fsSL' ;; esac
    if is_file; then
      echo "$sudo $script $*"
    else
      echo "$curl ${site%/dist}/install.sh | $sudo${*:+ -s -- $*}"
    fi
  }
  sum() { # FILE
    if has sha256sum; then
      sha256sum <"$1"
    elif has shasum; then
      shasum -a 256 <"$1"
    elif has openssl; then
      openssl dgst -sha256 -r <"$1"
    else
      busybox sha256sum <"$1"
    fi
  }
  sum_of() { # NAME, from lines `SUM  NAME` on standard input
    while read -r sum name; do
      [ "${name#\*}" != "$1" ] || echo "$sum"
    done
  }
  only_root() { # FOLDER, without links: true if only root can rename or replace files in it
    next=$1
    while
      # shellcheck disable=SC2012 # stat and find are not on every host
      LC_ALL=C ls -ldn "$next" 2>/dev/null | {
        read -r mode _ owner group _ && [ "$owner" = 0 ] && case $mode in
        d????????[tT]*) ;;                  # sticky: others cannot rename files of root
        d???????w* | d????w????+*) false ;; # others, and users in an access control list
        d????w*) [ "$group" = 0 ] ;;
        d*) ;;
        *) false ;;
        esac
      }
    do
      [ "$next" != / ] || return 0
      next=${next%/*}
      next=${next:-/}
    done
    return 1
  }
  make_folder() { # PLACE: makes $dir in it, with room for 8 MiB, or sets $why
    why='there is no such folder'
    place=$(CDPATH='' cd -P -- "$1" 2>/dev/null && pwd -P) || return
    why='others than root can replace files in it'
    only_root "$place" || return
    dir=$(LC_ALL=C mktemp -d "$place/monsys-install.XXXXXX" 2>&1) || {
      why=${dir##*: } dir=''
      return 1
    }
    why=$(LC_ALL=C dd if=/dev/zero of="$dir/probe" bs=65536 count=128 2>&1) || {
      why=${why%%"$newline"*} # below the error, dd prints numbers of blocks
      why=${why##*: }
      return 1
    }
    why='programs cannot run there, for example because it is mounted noexec'
    printf '#!/bin/sh\n' >"$dir/probe" && chmod 700 "$dir/probe" && "$dir/probe" 2>/dev/null
  }
  # get NAME CA, which may be empty. Only an http:// URL may be redirected to http://. The settings of curl
  # and wget in root's home do not apply (-q is curl's first argument), since the agent does not read them.
  get() {
    case $url in
    http://*) protocols='=http,https' redirects=20 ;;
    *) protocols='=https' redirects=0 ;; # wget's --https-only does not apply to redirects
    esac
    if has curl; then
      why=$(curl -q -fsSL --proto "$protocols" --tlsv1.2 --retry 3 --connect-timeout 30 \
        --speed-limit 1 --speed-time 60 ${2:+--cacert "$2"} -o "$dir/$1" "$url/$1" 2>&1)
    elif wget --help 2>&1 | grep -q -e --ca-certificate; then
      : >"$dir/$1" # an empty file takes the place of ~/.wgetrc; /etc/wgetrc still applies
      why=$(WGETRC="$dir/$1" WGET2RC="$dir/$1" wget -nv -t 3 -T 60 --max-redirect="$redirects" ${2:+--ca-certificate="$2"} \
        -O "$dir/$1" "$url/$1" 2>&1)
    else # BusyBox wget has no option for a CA or for redirects, only the checksum protects; Debian 12's fails with -T
      why=$(wget -q -O "$dir/$1" "$url/$1" 2>&1)
    fi
  }
  fetch() { # NAME, from $url into $dir
    case $url in
    file://*)
      from=${url#file://}/$1
      # A read of a pipe may block forever, and a device may have no end.
      [ ! -e "$from" ] || [ -f "$from" ] || fail 69 "$1 could not be copied from $shown" \
        "$from is not a regular file" 'set the folder of a release: MONSYS_DOWNLOAD_URL=file:///FOLDER'
      why=$(cp "$from" "$dir/$1" 2>&1)
      ;;
    *) # The download server may have another CA than the hub: exit codes 60 and 5 are "not trusted".
      get "$1" "${MONSYS_CA_FILE-}" || case $? in 5 | 60) get "$1" '' ;; *) false ;; esac
      ;;
    esac && return
    code=$?
    case $why in
    *'curl: ('*) # curl prints advice below its error
      why="curl: (${why##*'curl: ('}"
      why=${why%%"$newline"*}
      ;;
    esac
    why=${why##*"$newline"}
    why=${why:-"the download ended with $code and printed no reason"}
    case $why in
    *redirect* | *'Protocol "http"'*) fail 69 "$1 could not be downloaded from $shown" "$why" \
      'curl follows redirects from https only to https, and wget follows none: set the final address, MONSYS_DOWNLOAD_URL=URL' ;;
    esac
    fail 69 "$1 could not be downloaded from $shown" "$why" \
      'check the address, the network, the proxy (HTTPS_PROXY) and the disk space; or use a mirror: MONSYS_DOWNLOAD_URL=URL'
  }

  names=MONSYS_TOKEN
  for name in MONSYS_TOKEN_FILE MONSYS_HUB_URL MONSYS_TAGS MONSYS_ROLE MONSYS_CA_FILE \
    MONSYS_CA_PIN MONSYS_DOWNLOAD_URL MONSYS_VERSION MONSYS_SHA256 MONSYS_VERIFY HTTPS_PROXY; do
    eval "[ -z \"\${$name-}\" ]" || names=$names,$name
  done
  [ "$(id -u)" = 0 ] || fail 73 'only root can install a service' \
    "this is user $(id -un 2>/dev/null || id -u)" "$(line "$names" "$@")"
  case ${MONSYS_VERIFY-} in
  '' | strict) ;;
  *) fail 64 "MONSYS_VERIFY=$MONSYS_VERIFY is not a valid value" 'the values are strict and empty' \
    'set MONSYS_VERIFY=strict to require the signature, or unset MONSYS_VERIFY to check only the checksum' ;;
  esac
  given=$token${MONSYS_TOKEN_FILE-}${CREDENTIALS_DIRECTORY-}
  for word in "$@"; do
    case $word in
    --token-* | --no-enrol | --defer | --dry-run | --root* | --help) given=$word ;;
    esac
  done
  if [ -z "$given" ] && [ -n "${SUDO_USER-}" ] && [ ! -e "${MONSYS_CONFIG:-/etc/monsys/agent.toml}" ]; then
    fail 64 'no token was given' 'MONSYS_TOKEN is empty here: sudo has dropped the environment' \
      "$(line "$names,MONSYS_HUB_URL,MONSYS_TAGS,MONSYS_ROLE" "$@")"
  fi

  case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-amd64) platform=linux-x86_64 ;;
  Linux-aarch64 | Linux-arm64) platform=linux-aarch64 ;;
  *) fail 69 "there is no release for $(uname -s) on $(uname -m)" \
    'releases exist for linux-x86_64 and linux-aarch64' 'build the agent from source: cargo build --release' ;;
  esac
  version=${MONSYS_VERSION:-$DEFAULT_VERSION}
  version=${version#v}
  file=monsys-agent-$version-$platform
  url=${DEFAULT_DOWNLOAD_URL%"/v$DEFAULT_VERSION"}
  [ "$url" = "$DEFAULT_DOWNLOAD_URL" ] || url=$url/v$version
  url=${MONSYS_DOWNLOAD_URL:-$url}
  url=${url%/}
  shown=$(printf '%s\n' "$url" | sed 's#//[^/]*@#//#')
  case $url in
  file://*) ;;
  *) has curl || has wget || fail 69 'the release cannot be downloaded' 'neither curl nor wget is installed' \
    'install curl or wget; or copy the release to this host and set MONSYS_DOWNLOAD_URL=file:///FOLDER' ;;
  esac
  has sha256sum || has shasum || has openssl || has busybox || fail 69 'the download cannot be verified' \
    'no sha256sum, shasum, openssl or busybox is installed' 'install one of them (coreutils, perl, openssl)'

  dir=''
  trap '[ -z "$dir" ] || rm -rf "$dir"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  failed=''
  for folder in "${TMPDIR:-/tmp}" /tmp /var/tmp /run /opt; do
    case $failed in *"; $folder: "*) continue ;; esac
    make_folder "$folder" && break
    failed="$failed; $folder: $why"
    [ -z "$dir" ] || rm -rf "$dir"
    dir=''
  done
  [ -n "$dir" ] || fail 73 'there is no folder for the download' "${failed#; }" \
    'free 8 MiB in one of these folders; or set a folder that belongs to root, with all folders above it: TMPDIR=FOLDER'

  echo "Downloading monsys-agent $version for $platform from $shown" >&2
  signed=''
  if [ -n "$MINISIGN_KEY" ] && has minisign; then
    fetch SHA256SUMS
    fetch SHA256SUMS.minisig
    why=$(minisign -Vqm "$dir/SHA256SUMS" -P "$MINISIGN_KEY" 2>&1) || fail 76 \
      "the signature of $shown/SHA256SUMS is wrong" "${why##*"$newline"}" 'do not trust this mirror; use another one'
    signed=$(sum_of "$file" <"$dir/SHA256SUMS")
    [ -n "$signed" ] || fail 76 "the release at $shown has no $file" 'SHA256SUMS does not list this file' \
      'check MONSYS_VERSION and MONSYS_DOWNLOAD_URL'
  elif [ "${MONSYS_VERIFY-}" = strict ]; then
    fail 69 'the signature cannot be verified' \
      "MONSYS_VERIFY=strict needs minisign and a signed release; the key in this script: ${MINISIGN_KEY:-none}" \
      'install minisign; or unset MONSYS_VERIFY to check only the checksum'
  fi
  wanted=$(printf '%s' "${MONSYS_SHA256-}" | tr A-F a-f)
  wanted=${wanted:-$(printf '%s\n' "$CHECKSUMS" | sum_of "$file")}
  wanted=${wanted:-$signed}
  [ -n "$wanted" ] || fail 69 "there is no checksum for $file" \
    "this install.sh has the checksums of version $DEFAULT_VERSION" 'use the install.sh of that release; or set MONSYS_SHA256=HEX'
  fetch "$file"
  found=$(sum "$dir/$file")
  found=${found%% *}
  for sum in "$wanted" "${signed:-$wanted}"; do
    [ "$found" = "$sum" ] || fail 76 "$shown/$file is not the file of the release" \
      "its SHA-256 is $found, and the release has $sum" 'download it again; if the SHA-256 stays wrong, do not trust this mirror'
  done
  chmod 700 "$dir/$file"
  why=$("$dir/$file" --version 2>&1) || fail 74 'the program does not run on this host' \
    "${why##*"$newline"}" 'check noexec, SELinux, fapolicyd and AppArmor'

  [ -z "${MONSYS_HUB_URL:-$DEFAULT_HUB_URL}" ] || export MONSYS_HUB_URL="${MONSYS_HUB_URL:-$DEFAULT_HUB_URL}"
  [ -z "$token" ] || export MONSYS_TOKEN="$token"
  code=0
  if is_file; then
    "$dir/$file" install "$@" || code=$?
  else # standard input is this script
    "$dir/$file" install "$@" </dev/null || code=$?
  fi
  exit "$code"
}

{ main "$0" "$@"; }
