"""What visitors of an app got lately, from nginx's log: for the look at the error rate between batches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LOG = Path("/var/log/nginx/access.log")
# the form is role nginx's (log_format zarpar); nginx writes a quote inside a field as \x22
LINE = re.compile(rb'^\S+ - .*? \[[^\]]*\] "[^"]*" (\d{3}) \d+ "[^"]*" "[^"]*" "([^"]*)" ')


def traffic(request: dict[str, Any]) -> dict[str, Any]:
    """Count answers since a mark. request: domains, mark ("" for none: then only a mark is made).

    Returns {mark, requests, errors}; errors are answers of 500 and above. A log that was rotated meanwhile is read
    from its beginning.
    """
    mark = str(request.get("mark") or "")
    try:
        status = LOG.stat()
    except FileNotFoundError:
        return {"mark": "0:0", "requests": 0, "errors": 0, "changed": False}
    answer: dict[str, Any] = {"mark": f"{status.st_ino}:{status.st_size}", "requests": 0, "errors": 0}
    if mark:
        inode, _, offset = mark.partition(":")
        names = {name.encode() for name in request["domains"]}
        with LOG.open("rb") as handle:
            handle.seek(int(offset) if int(inode) == status.st_ino else 0)
            for line in handle:
                found = LINE.match(line)
                if found and found.group(2) in names:
                    answer["requests"] += 1
                    answer["errors"] += found.group(1) >= b"500"
    return {**answer, "changed": False}
