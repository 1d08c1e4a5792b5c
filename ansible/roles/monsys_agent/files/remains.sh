#!/bin/sh
# remains.sh USER PATH...: prints each path that exists, also as a broken link, and the user if it exists.
# The user may be empty.
user=$1
shift
for path; do
  if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\n' "$path"; fi
done
if [ -n "$user" ] && id "$user" >/dev/null 2>&1; then printf 'the user %s\n' "$user"; fi
