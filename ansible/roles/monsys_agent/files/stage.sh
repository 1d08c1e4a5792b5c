#!/bin/sh
# stage.sh: creates a folder that allows programs to run and that only root can replace, and prints its
# path. The functions of only_root.sh come first.
for place in "${TMPDIR:-/tmp}" /var/tmp /run /opt; do
  place=$(CDPATH='' cd -P -- "$place" 2>/dev/null && pwd -P) || continue
  only_root "$place" sticky || continue
  folder=$(mktemp -d "$place/monsys-agent.XXXXXX" 2>/dev/null) || continue
  printf '#!/bin/sh\n' 2>/dev/null >"$folder/probe" && chmod 700 "$folder/probe" &&
    "$folder/probe" 2>/dev/null && rm "$folder/probe" && echo "$folder" && exit 0
  rm -rf "$folder"
done
echo "no folder allows the program to run: ${TMPDIR:-/tmp}, /var/tmp, /run and /opt are read-only, full," \
  'mounted noexec, or others than root can replace files in them' >&2
exit 73
