#!/bin/sh
# look.sh PATH...: prints the path and the version of the first program, or nothing. It runs no program
# that others than root can change, and ends with 78. The functions of only_root.sh come first.
for program; do
  [ -e "$program" ] || continue
  if ! only_root "$program"; then
    case ${mode-}/${owner-} in
    d*/0) fix="chmod go-w ${checked-}" ;;
    d*) fix="chown root:root ${checked-} && chmod go-w ${checked-}" ;;
    *) fix="rm ${checked-}, then install the agent again" ;;
    esac
    # shellcheck disable=SC2016 # the backticks are part of the message
    printf 'error: `%s` was not run\n  cause: others than root can change `%s`: owner %s, group %s, mode %s\n  hint: %s\n' \
      "$program" "${checked-}" "${owner:-unknown}" "${group:-unknown}" "${mode:-unknown}" "$fix" >&2
    exit 78
  fi
  if version=$("$program" --version); then
    printf '%s\n%s\n' "$program" "$version"
    break
  fi
  echo "$program does not run" >&2
done
