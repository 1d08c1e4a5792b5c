#!/bin/sh
# purge.sh '' | yes, FOLDER...: prints the files of the folders that would be removed, or removes them.
# The function of forget.sh comes first.
action=$1 code=0
shift
# -delete uses no path, which another user could change meanwhile; BusyBox may be built without it.
if [ -n "$action" ] && find --help 2>&1 | grep -q -e -delete; then
  action=-delete
elif [ -n "$action" ]; then
  action=-exec
fi
for folder; do
  forget "$folder" "$action" || code=73
done
exit "$code"
