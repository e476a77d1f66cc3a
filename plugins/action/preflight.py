"""Checks before anything is changed: `of: inventory` on the controller, then `of: host` on each host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from ansible.errors import AnsibleError

from zarpar import manifest, release_plan, services
from zarpar.actions import ROOT, HostFailure, ZarparAction, fact
from zarpar.errors import BadData
from zarpar.variables import RoleVariables, check_host_name

manifest.read_all(ROOT / "roles")  # before Ansible forks

DISK_MB = 1024
# Forms do not depend on a host; what merely needs one to be rendered gets this.
ASSUMED_HOST = {"memory_mb": 4096, "swap_mb": 0, "container": False, "version": 13, "cpus": 2, "ipv6": True}


class ActionModule(ZarparAction):
    """The task `preflight: {of: inventory | host}`."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run one of the two checks. The result carries facts for the tasks that follow, and no secret."""
        if self._task.args.get("of") == "inventory":
            return self._inventory(task_vars)
        return self._host(task_vars)

    def _inventory(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """All data is right, for every host; the commits to release are settled for the whole run."""
        for name in task_vars["groups"]["all"]:
            check_host_name(name)
        self._variables(task_vars)
        apps = self.apps(task_vars)
        services.check(apps, task_vars)
        plan = release_plan.settle(apps, task_vars)
        warnings = [
            f"{name}: uncommitted changes in {entry['folder']} are not part of the release"
            for name, entry in plan.items()
            if entry["dirty"]
        ]
        warnings += [f"{name}: {note}" for name, entry in plan.items() for note in entry["notes"]]
        warnings += release_plan.idle_workers(apps, plan, task_vars)
        return {
            "ansible_facts": {"zarpar_releases": plan},
            "zarpar": {"apps": sorted(plan), "warnings": warnings},
            **({"warnings": warnings} if warnings else {}),
        }

    def _variables(self, task_vars: dict[str, Any]) -> None:
        """Every host's variables: this task runs on one host, and another may have values of its own."""
        roles = RoleVariables(ROOT / "roles")
        checked: list[dict[str, Any]] = []
        mine = self._templar
        for host in dict.fromkeys([task_vars["inventory_hostname"], *task_vars["groups"]["all"]]):
            its = task_vars["hostvars"].raw_get(host) if checked else task_vars
            if roles.mine(its) not in checked:
                checked.append(roles.mine(its))
                self._templar = mine.copy_with_new_env(available_variables=its)
                roles.check(its, self.reference)
                self._forms(roles, its)
                self.apps(its)
        self._templar = mine

    def _forms(self, roles: RoleVariables, task_vars: dict[str, Any]) -> None:
        """Render every internal __x of a role that stands for a public variable x: it refuses a wrong form."""
        for role, options in roles.specs.items():
            available = manifest.role_variables(ROOT / "roles" / role, task_vars)
            for name in options:
                if f"__{name}" in available:
                    try:
                        self.render(available[f"__{name}"], {**available, "host": ASSUMED_HOST})
                    except AnsibleError as error:
                        raise BadData(str(error.message).splitlines()[0]) from error

    def _host(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The host can be reached, is a system that we know, lets us be root, and has room. Is there anything to do?"""
        facts = self.call("facts", {})
        if facts["disk_free_mb"] < DISK_MB:
            raise HostFailure(
                f"only {facts['disk_free_mb']} MB are free on /; {DISK_MB} MB are needed",
                hint="Free some room, for example: journalctl --vacuum-size=100M; apt-get clean",
                kind="disk",
            )
        known = {"zarpar_facts": facts}
        roles = self._roles_of_host(task_vars)
        if not roles:
            return {"ansible_facts": known, "zarpar": {"facts": facts}}
        plan = fact(task_vars, "zarpar_releases") if "app_release" in roles else {}
        scope = self.scope(task_vars, facts)
        manifests = {}
        for role in roles:
            folder = ROOT / "roles" / role
            if (folder / "manifest.yml").is_file():
                available = manifest.role_variables(folder, task_vars) | scope
                manifests[role] = manifest.items(self, folder, available)
        seen = self.call("look", self._wanted(manifests, plan, task_vars))
        served = all(one["served"] for one in seen["releases"].values())
        told = {
            name: {"outcome": "unchanged", "release": plan[name]["id"], "commit": plan[name]["commit"]}
            for name, one in seen["releases"].items()
            if one["served"]
        }
        whole = set(task_vars.get("ansible_run_tags", ())) == {"all"} and not task_vars.get("ansible_skip_tags")
        known |= {
            # apt runs once for what all roles begin with
            "zarpar_ahead": [one for items in manifests.values() for one in manifest.beginning(items)] if whole else [],
            "zarpar_provisioned": not seen["differs"],
            "zarpar_served": served,
            "zarpar_here": {name: one["here"] for name, one in seen["releases"].items()},
        }
        return {"ansible_facts": known, "zarpar": {"facts": facts, "differs": seen["differs"], "apps": told}}

    def _wanted(self, manifests: dict[str, Any], plan: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return {
            "manifests": manifests,
            "releases": {name: one["id"] for name, one in plan.items()},
            "part": services.part(task_vars["inventory_hostname"], task_vars),
        }

    def _roles_of_host(self, task_vars: dict[str, Any]) -> list[str]:
        """The roles that this run has for the host, in order; from the task's `roles: {group: [role]}`."""
        groups = ["all", *task_vars["group_names"]]
        given: dict[str, list[str]] = self._task.args.get("roles") or {}
        return list(dict.fromkeys(role for group, names in given.items() if group in groups for role in names))
