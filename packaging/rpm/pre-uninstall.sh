#!/bin/sh
# $1 is 0 at a removal, 1 at an upgrade, which does not stop the service.
if [ "$1" = 0 ]; then
  systemctl --no-reload disable monsys-agent.service >/dev/null 2>&1 || :
  if [ -d /run/systemd/system ]; then
    systemctl stop monsys-agent.service >/dev/null 2>&1 || :
  fi
fi
exit 0
