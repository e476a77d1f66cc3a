"""The release verbs of zarpar-host for every app of the run: prepare, migrate, activate, rollback, status."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zarpar import release_plan, source
from zarpar.actions import HostFailure, ZarparAction, fact

Answer = dict[str, Any]


class ActionModule(ZarparAction):
    """The task `release: {verb: prepare | migrate | activate | rollback | status}`."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the verb for each app; the first failure ends it, and the result says how far each app came."""
        verb = str(self._task.args["verb"])
        if verb == "status":
            return {"zarpar": {"verb": verb, "status": self.call("status", {})}}
        outcomes: dict[str, Answer] = {}
        result: dict[str, Any] = {"zarpar": {"verb": verb, "apps": outcomes}}
        apps = {app["name"]: app for app in self.apps_for_host(task_vars)}
        plan = fact(task_vars, "zarpar_releases")
        step = getattr(self, f"_{verb}")
        for name in plan or release_plan.selected(self.apps(task_vars), task_vars.get("zarpar_apps")):
            try:
                outcomes[name] = {"url": _url(apps[name]), **step(apps[name], plan.get(name, {}), task_vars)}
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
        return {**result, "changed": any(outcome.get("changed") for outcome in outcomes.values())}

    def _prepare(self, app: Answer, release: Mapping[str, Any], _vars: Mapping[str, Any]) -> Answer:
        told = {"release": release["id"], "commit": release["commit"], "subject": release["subject"]}
        if self._task.check_mode:
            live = self.call("status", {"apps": [app["name"]]})["apps"].get(app["name"], {}).get("live") or {}
            same = live.get("release") == release["id"]
            return {**told, "outcome": "unchanged" if same else "would be released", "changed": not same}
        wanted = ("id", "tree", "commit", "subject", "author", "wsgi", "migrate", "by")
        request: Answer = {"app": app, "release": {key: release[key] for key in wanted}}
        answer = self.call("prepare", request)
        if answer["outcome"] == "needed":
            keys = {key: release[key] for key in source.Commit.__dataclass_fields__}
            data = source.archive(source.Commit(**keys))
            request["archive"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            answer = self.call("prepare", request, data)
        return {**told, **answer}

    def _migrate(self, app: Answer, release: Mapping[str, Any], _vars: Mapping[str, Any]) -> Answer:
        if self._task.check_mode:
            return {"outcome": "unchanged", "changed": False}
        return self.call("migrate", {"app": app["name"], "release": release["id"], "by": release["by"]})

    def _activate(self, app: Answer, release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        if self._task.check_mode:
            return {"outcome": "unchanged", "changed": False}
        request = {"app": app["name"], "release": release["id"], "by": release["by"]}
        return self._confirmed(app, self.call("activate", {**request, **_watch(task_vars)}), release["by"])

    def _rollback(self, app: Answer, _release: Mapping[str, Any], task_vars: Mapping[str, Any]) -> Answer:
        by = release_plan.operator()
        request = {"app": app["name"], "by": by, "to": str(task_vars.get("zarpar_release") or "")}
        return self._confirmed(app, self.call("rollback", {**request, **_watch(task_vars)}), by)

    def _confirmed(self, app: Answer, answer: Answer, by: str) -> Answer:
        """Confirm a switch: this second call is what proves that the host can still be reached."""
        if "token" in answer:
            self.call("confirm", {"app": app["name"], "token": answer.pop("token"), "by": by})
        return answer


def _watch(task_vars: Mapping[str, Any]) -> Answer:
    return {"confirm_within": int(task_vars.get("app_release_confirm_within") or 60)}


def _url(app: Mapping[str, Any]) -> str:
    return f"{'http' if app['tls'] == 'off' else 'https'}://{app['canonical']}/"
