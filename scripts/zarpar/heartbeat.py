"""Keeps a deploy's leases alive on one host for as long as ansible-playbook lives, then gives them back.

Started by the action plugin `release` as a process of its own, standard library only, so that killing Ansible does
not kill it. Standard input: JSON {pid, renew: argv, unlock: argv, requests: [json text], seconds}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys

CALL_LIMIT = 15


def main() -> None:
    """Renew every `seconds` until the process `pid` has ended; then unlock."""
    order = json.load(sys.stdin)
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(order["pid"])
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        while not ended.poll(order["seconds"] * 1000):
            _call(order["renew"], order["requests"])
    _call(order["unlock"], order["requests"])


def _call(argv: list[str], requests: list[str]) -> None:
    """One call for each app; what fails is tried again at the next beat, or ends by itself on the host."""
    for request in requests:
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            subprocess.run(  # noqa: S603 - the argument list that Ansible itself would run
                argv, input=request.encode(), capture_output=True, timeout=CALL_LIMIT, check=False
            )


if __name__ == "__main__":
    main()
