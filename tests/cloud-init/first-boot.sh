#!/bin/sh
# A first boot of cloud-init over this machine's files, in a mount namespace: its writes below /etc, /opt, /root,
# /run, /usr/local, /var/lib, /var/log and /var/opt are in memory and vanish with the namespace.
#
#     unshare --mount first-boot.sh WORK
#
# WORK is a directory with user-data, meta-data and an executable cloud-init. The results are written
# there: status, output, cloud-init.log, and left, a list of the remaining files of the boot script.
# WORK/after, if it exists, is a script that runs at the end as an operator would, with the program in
# CLOUD_INIT; its output is in after.log, and left is written after it. If WORK/noexec exists, /var/lib is
# mounted noexec.
set -eu
work=$1
export CLOUD_INIT="$work/cloud-init"
memory=$work/memory

mkdir -p "$memory"
mount -t tmpfs tmpfs "$memory"
for folder in /etc /opt /root /usr/local; do
  layer=$memory/$(basename "$folder")
  mkdir -p "$layer/upper" "$layer/workdir"
  mount -t overlay overlay -o "lowerdir=$folder,upperdir=$layer/upper,workdir=$layer/workdir" "$folder"
done
for folder in /run /var/lib /var/log /var/opt; do
  mount -t tmpfs tmpfs "$folder"
done
[ ! -e "$work/noexec" ] || mount -o remount,noexec /var/lib

mkdir -p /etc/cloud/cloud.cfg.d /var/lib/cloud/seed/nocloud
cp "$work/user-data" "$work/meta-data" /var/lib/cloud/seed/nocloud
# Only the modules that execute user data: names, users, disks and network of this machine stay unchanged.
cat >/etc/cloud/cloud.cfg <<'END'
datasource_list: [NoCloud, None]
network: {config: disabled}
cloud_init_modules: [bootcmd, write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user]
system_info: {distro: debian}
END
# Debian's configuration of the log: cloud-init's own log in one file, the output of scripts in another.
cp "$(dirname "$(readlink -f "$CLOUD_INIT")")/root/etc/cloud/cloud.cfg.d/05_logging.cfg" /etc/cloud/cloud.cfg.d/

for stage in 'init --local' init 'modules --mode=config' 'modules --mode=final'; do
  # shellcheck disable=SC2086 # words of a command
  "$CLOUD_INIT" $stage >/dev/null 2>>"$work/stages.log" || :
done
"$CLOUD_INIT" status --long >"$work/status" || :
cp /var/log/cloud-init-output.log "$work/output"
cp /var/log/cloud-init.log "$work/cloud-init.log"
if [ -e "$work/after" ]; then
  sh "$work/after" >"$work/after.log" 2>&1 || echo "exit $?" >>"$work/after.log"
fi
find /var/lib/monsys-boot /var/lib/cloud/scripts /etc/monsys-boot ! -type d >"$work/left" 2>/dev/null || :
