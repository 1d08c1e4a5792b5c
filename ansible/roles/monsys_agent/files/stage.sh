#!/bin/sh
# stage.sh: creates a folder that has room for 8 MiB, allows programs to run and that only root can
# replace, and prints its path. The functions of only_root.sh come first.
newline='
'
make_folder() { # PLACE: makes $folder in it, or sets $why
  folder='' why='there is no such folder'
  place=$(CDPATH='' cd -P -- "$1" 2>/dev/null && pwd -P) || return
  why='others than root can replace files in it'
  only_root "$place" sticky || return
  folder=$(LC_ALL=C mktemp -d "$place/monsys-agent.XXXXXX" 2>&1) || {
    why=${folder##*: } folder=''
    return 1
  }
  why=$(LC_ALL=C dd if=/dev/zero of="$folder/probe" bs=65536 count=128 2>&1) || {
    why=${why%%"$newline"*} # below the error, dd prints numbers of blocks
    why=${why##*: }
    return 1
  }
  why='programs cannot run there, for example because it is mounted noexec'
  printf '#!/bin/sh\n' >"$folder/probe" && chmod 700 "$folder/probe" && "$folder/probe" 2>/dev/null &&
    rm "$folder/probe"
}

failed=''
for tried in "${TMPDIR:-/tmp}" /tmp /var/tmp /run /opt; do
  case $failed in *"; $tried: "*) continue ;; esac
  make_folder "$tried" && echo "$folder" && exit 0
  failed="$failed; $tried: $why"
  [ -z "$folder" ] || rm -rf "$folder"
done
echo "there is no folder for the program: ${failed#; }" >&2
exit 73
