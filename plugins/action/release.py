"""The release verbs of zarpar-host for every app of the run: prepare, migrate, activate, rollback, status."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from ansible.errors import AnsibleConnectionFailure

from zarpar import release_plan, services, source
from zarpar.actions import HostFailure, ZarparAction, fact
from zarpar.variables import check_own, is_yes, migrates

Answer = dict[str, Any]
Step = Callable[..., Answer]
LOCK_WAIT = 5  # seconds
SOAK_REQUESTS = 20  # fewer say nothing about a release


class ActionModule(ZarparAction):
    """The task `release: {verb: prepare | order | migrate | activate | soak | rollback | undo | status}`."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the verb for each app; the first failure ends it, and the result says how far each app came."""
        verb = str(self._task.args["verb"])
        check_own(task_vars, self.reference)  # rollback, undo and status have no preflight
        if verb == "status":
            wanted = [name for name in str(task_vars.get("zarpar_apps") or "").split(",") if name]
            status = self.call("status", {"apps": wanted})
            return {"zarpar": {"verb": verb, "status": status}, "ansible_facts": {"zarpar_status": status}}
        if verb == "order":
            return {"ansible_facts": {"zarpar_order": _order(task_vars)}, "zarpar": {"verb": verb}}
        outcomes: dict[str, Answer] = {}
        result: dict[str, Any] = {"zarpar": {"verb": verb, "apps": outcomes}}
        apps = {app["name"]: app for app in self.apps_for_host(task_vars)}
        plan = fact(task_vars, "zarpar_releases")
        step = getattr(self, f"_{verb}")
        for name in plan or release_plan.selected(self.apps(task_vars), task_vars.get("zarpar_apps")):
            try:
                outcomes[name] = {"url": _url(apps[name]), **_reached(step, apps[name], plan.get(name, {}), task_vars)}
            except HostFailure as error:
                outcomes[name] = {"outcome": error.kind, "release": plan.get(name, {}).get("id", "")}
                detail = "\n".join(part for part in (error.detail, error.hint) if part)
                failure = {"error": error.kind, "hint": error.hint}
                return {
                    **result,
                    "failed": True,
                    "msg": f"{name}: {error.summary}" + (f"\n{detail}" if detail else ""),
                    "zarpar": {**result["zarpar"], **failure},
                }
        notes = [f"{name}: {note}" for name, outcome in outcomes.items() for note in outcome.get("notes", [])]
        if notes:
            result["warnings"] = result["zarpar"]["warnings"] = notes
        if verb == "prepare":
            result["ansible_facts"] = {"zarpar_well": all(outcome["well"] for outcome in outcomes.values())}
        return {**result, "changed": any(outcome.get("changed") for outcome in outcomes.values())}

    def _prepare(self, app: Answer, release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        told = {key: release[key] for key in ("commit", "subject", "deploy")} | {"release": release["id"]}
        if self._task.check_mode:
            live = self.call("status", {"apps": [app["name"]]})["apps"].get(app["name"], {}).get("live") or {}
            same = live.get("release") == release["id"]
            outcome = "unchanged" if same else "would be released"
            return {**told, "outcome": outcome, "changed": not same, "well": True}
        archive = b""
        if task_vars["ansible_facts"].get("zarpar_here", {}).get(app["name"]) is False:  # known: not asked first
            archive = self._archive(release)
            self.keep_leases([{"app": app["name"], "lease": release["deploy"]}])
        wanted = ("id", "tree", "commit", "subject", "author", "wsgi", "worker_class", "migrate", "by")
        wanted += ("processes", "schedules")
        request: Answer = {"app": app, "release": {key: release[key] for key in wanted}}
        request["lease"] = release["deploy"]
        request["wait"] = int(task_vars.get("zarpar_wait_lock") or LOCK_WAIT)
        answer = self._send(request, archive)
        if answer["outcome"] != "unchanged" and not archive:
            self.keep_leases([{"app": app["name"], "lease": release["deploy"]}])
        if answer["outcome"] == "needed":
            answer = self._send(request, self._archive(release))
        return {**told, **answer, "on_failure": str(task_vars["app_release_on_failure"])}

    def _archive(self, release: Mapping[str, Any]) -> bytes:
        return source.archive(source.Commit(**{key: release[key] for key in source.Commit.__dataclass_fields__}))

    def _send(self, request: Answer, archive: bytes) -> Answer:
        if archive:
            request["archive"] = {"sha256": hashlib.sha256(archive).hexdigest(), "size": len(archive)}
        return self.call("prepare", request, archive)

    def _migrate(self, app: Answer, release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        if self._task.check_mode or not migrates(task_vars["inventory_hostname"], task_vars):
            return {"outcome": "unchanged", "changed": False}
        return self.call("migrate", _request(app, release))

    def _activate(self, app: Answer, release: Mapping[str, Any], _vars: Mapping[str, Any]) -> Answer:
        if self._task.check_mode:
            return {"outcome": "unchanged", "changed": False}
        request = _request(app, release)
        return self._confirmed(request, self.call("activate", request))

    def _soak(self, app: Answer, release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        """Wait, then look at what visitors got; a release that gives them errors goes back on this host."""
        if services.part(task_vars["inventory_hostname"], task_vars) == "processes":  # it has no visitors
            return {"outcome": "unchanged", "changed": False}
        asked = {"domains": app["domains"]}
        mark = self.call("traffic", asked)["mark"]
        time.sleep(int(task_vars["app_release_soak"]))
        seen = self.call("traffic", {**asked, "mark": mark})
        share = 100 * seen["errors"] / seen["requests"] if seen["requests"] else 0
        told = f"{seen['errors']} of {seen['requests']} answers were errors"
        if seen["requests"] >= SOAK_REQUESTS and share > float(task_vars["app_release_max_errors"]):
            request = {**_request(app, release), "force": True}
            self._confirmed(request, self.call("rollback", request))
            raise HostFailure(f"release {release['id']} was rolled back: {told}", kind="rolled_back")
        return {"outcome": "unchanged", "changed": False, "detail": told, "release": release["id"]}

    def _rollback(self, app: Answer, _release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        target = str(task_vars.get("zarpar_release") or "")
        if not target:
            target = release_plan.rollback_target(app["name"], task_vars["inventory_hostname"], _statuses(task_vars))
        request = {"app": app["name"], "by": release_plan.operator(), "to": target}
        request["force"] = is_yes(task_vars.get("zarpar_force"))
        return self._confirmed(request, self.call("rollback", request))

    def _undo(self, app: Answer, _release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        deploy = str(task_vars.get("zarpar_deploy") or "")
        request = {"app": app["name"], "by": release_plan.operator(), "deploy": deploy, "lease": deploy}
        return self._confirmed(request, self.call("undo", request))

    def _confirmed(self, request: Mapping[str, Any], answer: Answer) -> Answer:
        """Confirm a switch: this second call is what proves that the host can still be reached."""
        if "token" in answer:
            self.call("confirm", {**request, "token": answer.pop("token")})
        return answer


def _reached(step: Step, *words: Any) -> Answer:
    """Run a step; a host that is lost on the way has failed.

    For Ansible it would be unreachable, and with `serial` the servers after an unreachable one get their turn:
    ansible-core counts it twice, and compares the count with the size of the batch.
    """
    try:
        return step(*words)
    except AnsibleConnectionFailure as error:
        raise HostFailure(str(error.message).strip(), kind="unreachable") from error


def _statuses(task_vars: Mapping[str, Any]) -> dict[str, Answer]:
    """What every host of the run said of itself, also those of the other play: web hosts and workers go one way."""
    hosts = dict.fromkeys([*task_vars["ansible_play_hosts_all"], *services.app_hosts(task_vars)])
    statuses = {host: fact(task_vars["hostvars"][host], "zarpar_status") for host in hosts}
    return {host: status for host, status in statuses.items() if status}


def _order(task_vars: Mapping[str, Any]) -> list[str]:
    hostvars, hosts = task_vars["hostvars"], list(task_vars["ansible_play_hosts_all"])
    well = {host: bool(hostvars[host]["ansible_facts"].get("zarpar_well", True)) for host in hosts}
    return release_plan.web_order(well, task_vars)


def _request(app: Mapping[str, Any], release: Mapping[str, Any]) -> Answer:
    return {
        "app": app["name"],
        "release": release["id"],
        "by": release["by"],
        "commit": release["commit"],
        "lease": release["deploy"],
    }


def _url(app: Mapping[str, Any]) -> str:
    return f"{'http' if app['tls'] == 'off' else 'https'}://{app['canonical']}/"
