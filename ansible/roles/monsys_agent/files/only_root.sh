#!/bin/sh
# only_root.sh: the functions at the beginning of look.sh and stage.sh.

# only_root PATH [sticky]: true if only root, or the current user, can change PATH, every folder above
# it and every link to it. With `sticky`, a sticky folder counts too, because nobody can rename the files
# of others in it. If the result is false, `checked`, `mode`, `owner` and `group` describe the file.
only_root() {
  rest=$1 above='' links=0 checked=/
  while is_roots "$checked" "${2-}"; do
    if [ -L "$checked" ]; then
      links=$((links + 1))
      [ "$links" -le 40 ] || return 1
      target=$(readlink "$checked") || return 1
      case $target in /*) above='' ;; esac
      rest=$target/$rest
    else
      above=${checked%/}
    fi
    name=''
    while [ -n "$rest" ] && [ -z "$name" ]; do
      name=${rest%%/*}
      rest=${rest#"$name"}
      rest=${rest#/}
      case $name in
      .) name='' ;;
      ..) above=${above%/*} name='' ;;
      esac
    done
    [ -n "$name" ] || return 0
    checked=$above/$name
  done
  return 1
}

# is_roots FILE [sticky]: the same check for one file or folder.
is_roots() {
  set -f
  # shellcheck disable=SC2046,SC2012 # splits into words; stat and find are not on every host
  set -- "${2-}" $(LC_ALL=C ls -ldn "$1" 2>/dev/null)
  set +f
  mode=${2-} owner=${4-} group=${5-}
  [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ] || return 1
  case $mode in d????????[tT]*) [ -z "$1" ] || return 0 ;; esac
  case $mode in
  '') return 1 ;;
  l*) ;; # the folder of a link decides
  # Writable for others, or for users in an access control list.
  ????????w* | ?????w????+*) return 1 ;;
  ?????w*) [ "$group" = 0 ] ;;
  esac
}
