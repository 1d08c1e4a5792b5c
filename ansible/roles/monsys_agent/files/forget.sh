#!/bin/sh
# forget.sh: the function that removes folders, for purge.sh and for the deb's postrm.

# forget FOLDER [-delete | -exec]: prints the folder and its content, and removes both with that action
# of find, except for mounts. A bind mount may be of the same file system, which
# `rm --one-file-system` does not detect. A link is removed, and its target stays.
forget() {
  action=${2-}
  if [ -L "$1" ]; then
    printf 'monsys-agent: %s leads to %s, which stays with its files of the agent\n' \
      "$1" "$(readlink "$1")" >&2
    printf '%s\n' "$1"
    [ -z "$action" ] || rm -f "$1"
    return
  fi
  [ -d "$1" ] || return 0
  # The list of mounts has paths without links.
  folder=$(CDPATH='' cd -P -- "$1" && pwd -P) || return
  set --
  if [ -r /proc/self/mountinfo ]; then
    while read -r _ _ _ _ point _; do
      case $point in "$folder" | "$folder"/*) ;; *) continue ;; esac
      # Spaces, line breaks and the backslash are octal in mountinfo (proc_pid_mountinfo(5)).
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
