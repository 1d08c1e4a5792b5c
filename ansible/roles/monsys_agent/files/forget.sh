#!/bin/sh
# forget.sh: the function that purge.sh, and the deb's postrm, remove folders with.

# forget FOLDER [-delete | -exec]: prints all that is in it, and itself, and removes it by that action of
# find's; but nothing that is mounted there. A bind mount may be of the same file system, which
# `rm --one-file-system` does not see. A link goes, and what it leads to stays.
forget() {
  action=${2-}
  if [ -L "$1" ]; then
    printf 'monsys-agent: %s leads to %s, which stays with what the agent wrote there\n' \
      "$1" "$(readlink "$1")" >&2
    printf '%s\n' "$1"
    [ -z "$action" ] || rm -f "$1"
    return
  fi
  [ -d "$1" ] || return 0
  # As mounts are listed, without links on the way.
  folder=$(CDPATH='' cd -P -- "$1" && pwd -P) || return
  set --
  if [ -r /proc/self/mountinfo ]; then
    while read -r _ _ _ _ point _; do
      case $point in "$folder" | "$folder"/*) ;; *) continue ;; esac
      # Spaces, line breaks and the backslash are octal in it (proc_pid_mountinfo(5)).
      point=$(printf '%b' "$(printf '%s\n' "$point" | sed 's/\\/\\0/g')/")
      point=${point%/}
      printf 'monsys-agent: %s is a mount point, and stays\n' "$point" >&2
      escaped=$(printf '%s/\n' "$point" | sed 's/[][*?\\]/\\&/g')
      [ "$point" = "$folder" ] || set -- "$@" ! -path "${escaped}*"
      while
        set -- "$@" ! -path "${escaped%/}"
        [ "$point" != "$folder" ]
      do
        point=${point%/*} escaped=${escaped%/} escaped=${escaped%/*}/
      done
    done </proc/self/mountinfo
  fi
  if [ "$action" = -exec ]; then
    find "$folder" -xdev -depth "$@" \( -type d -exec rmdir {} \; -o ! -type d -exec rm -f {} \; \) -print
    [ -z "$(find "$folder" -xdev "$@" 2>/dev/null)" ]
  else
    find "$folder" -xdev -depth "$@" -print ${action:+"$action"}
  fi
}
