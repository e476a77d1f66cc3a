# memory.sh UNIT: the memory of a unit's processes in kB, what they share counted once (PSS).
set -euo pipefail
group=$(systemctl show --property=ControlGroup --value "$1")
total=0
for process in $(cat "/sys/fs/cgroup$group/cgroup.procs"); do
  part=$(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' "/proc/$process/smaps_rollup")
  total=$((total + part))
done
echo "$total"
