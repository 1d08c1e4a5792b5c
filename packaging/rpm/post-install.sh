#!/bin/sh
# $1 is 1 at the first installation, 2 at an upgrade. This script does not enrol the host: that needs a
# secret, and a package never asks for one.
unit=monsys-agent.service

# Creates the user of the service. Either of user and group may exist already. Before systemd 250,
# systemd-sysusers fails without /proc, as in a tree of `rpm --root`: then the programs of shadow-utils
# create the user.
if ! systemd-sysusers monsys-agent.conf; then
  getent group monsys >/dev/null || groupadd --system monsys || exit 1
  getent passwd monsys >/dev/null ||
    useradd --system --gid monsys --home-dir /var/lib/monsys --no-create-home \
      --shell /usr/sbin/nologin monsys || exit 1
fi

# The two directories belong to root, and the service's user reads them through its group. The privileged
# step before the service (`monsys-agent prepare`) takes over files that an older release gave to that
# user, and files that root wrote before the host had the group.
[ -d /etc/monsys ] || install -d -o root -g root -m 0755 /etc/monsys || exit 1
[ -d /var/lib/monsys ] || install -d -o root -g monsys -m 0750 /var/lib/monsys || exit 1

enrolled() { # 75 is an enrolled host without a recent heartbeat
  monsys-agent status >/dev/null 2>&1 || [ $? = 75 ]
}

# The service starts at boot, unless a preset of the administrator or of the distribution says otherwise
# (systemd.preset(5)). An upgrade changes nothing.
if [ "$1" = 1 ]; then
  systemctl --no-reload preset "$unit" >/dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null 2>&1 || :
  if [ "$1" != 1 ]; then
    # An upgrade restarts a running service with the new program. A stopped service stays down.
    systemctl try-restart "$unit" >/dev/null 2>&1 ||
      echo "monsys-agent: the service did not restart: journalctl -u monsys-agent" >&2
  elif enrolled && systemctl --quiet is-enabled "$unit"; then
    systemctl start "$unit" >/dev/null 2>&1 ||
      echo "monsys-agent: the service did not start: journalctl -u monsys-agent" >&2
  fi
fi

if [ "$1" = 1 ] && ! enrolled; then
  echo "monsys-agent: this host is not enrolled yet, so its service is not started. As root:"
  echo "  MONSYS_TOKEN=enrl_... monsys-agent enrol --hub-url https://hub.example.com"
  echo "  systemctl enable --now monsys-agent"
fi

# `monsys-agent install` wrote its own unit, which hides the unit of this package.
if [ -e "/etc/systemd/system/$unit" ] && [ ! -L "/etc/systemd/system/$unit" ]; then
  echo "monsys-agent: /etc/systemd/system/$unit hides this package's unit; to remove the manual" \
    "installation: /usr/local/bin/monsys-agent uninstall" >&2
fi
exit 0
