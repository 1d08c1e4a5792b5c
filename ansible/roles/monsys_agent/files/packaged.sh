#!/bin/sh
# packaged.sh: prints the format, the state and the version of the package monsys-agent, such as
# `deb installed 0.1.0-1`, or nothing. A removed deb that was not purged has the state config-files.
if found=$(dpkg-query --show --showformat='${db:Status-Status} ${Version}' monsys-agent 2>/dev/null); then
  case $found in
  not-installed*) ;;
  *) printf 'deb %s\n' "$found" ;;
  esac
fi
if found=$(rpm -q --queryformat 'installed %{VERSION}-%{RELEASE}' monsys-agent 2>/dev/null); then
  printf 'rpm %s\n' "$found"
fi
