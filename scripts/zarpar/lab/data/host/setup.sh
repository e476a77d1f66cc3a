#!/bin/sh
# Runs once in a minimal Debian, while the image is built.
set -eu
export DEBIAN_FRONTEND=noninteractive

if [ -n "$SOURCES" ]; then
  rm -f /etc/apt/sources.list.d/*
  printf '%s\n' "$SOURCES" > /etc/apt/sources.list
fi
# What a registry's image sets up for containers, and a VPS has not.
rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-* /etc/dpkg/dpkg.cfg.d/docker-*
# Only for speed; neither changes what gets installed.
echo 'Acquire::Languages "none";' > /etc/apt/apt.conf.d/90lab
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/90lab

# A mirror may be one that only these certificates vouch for.
! command -v update-ca-certificates > /dev/null || update-ca-certificates > /dev/null
apt-get update -qq
apt-get install -qq --no-install-recommends \
  systemd systemd-sysv libpam-systemd dbus openssh-server python3 python3-apt sudo ca-certificates \
  iproute2 procps tzdata kmod netbase less > /dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*
update-ca-certificates > /dev/null

echo LANG=C.UTF-8 > /etc/default/locale
useradd --create-home --shell /bin/bash --groups sudo deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/90-deploy
chmod 440 /etc/sudoers.d/90-deploy
mkdir -p /var/log/journal

systemctl enable lab-hostkeys.service lab-netsysctl.service
# The clock is the machine's.
systemctl mask systemd-timesyncd.service systemd-firstboot.service getty.target console-getty.service
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
