#!/bin/sh
# stage.sh: makes a folder in which a program may run and that others than root cannot replace, and
# prints its path. The functions of only_root.sh come first.
for place in "${TMPDIR:-/tmp}" /var/tmp /run /opt; do
  place=$(CDPATH='' cd -P -- "$place" 2>/dev/null && pwd -P) || continue
  only_root "$place" sticky || continue
  folder=$(mktemp -d "$place/monsys-agent.XXXXXX" 2>/dev/null) || continue
  printf '#!/bin/sh\n' 2>/dev/null >"$folder/probe" && chmod 700 "$folder/probe" &&
    "$folder/probe" 2>/dev/null && rm "$folder/probe" && echo "$folder" && exit 0
  rm -rf "$folder"
done
echo "no folder takes the program: ${TMPDIR:-/tmp}, /var/tmp, /run and /opt are read-only, full, mounted noexec," \
  'or others than root can replace what is in them' >&2
exit 73
