#!/bin/sh
# look.sh PATH...: prints which program is there and what version it is, or nothing.
for program; do
  if version=$("$program" --version 2>/dev/null); then
    printf '%s\n%s\n' "$program" "$version"
    break
  fi
done
