"""What the RQ worker does: it writes letters, and puts them where the web app finds them."""

import os

import redis

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
connection = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=10, health_check_interval=30)


def write(name: str) -> dict[str, str]:
    """Write a letter to somebody."""
    connection.lpush("outbox", f"Dear {name}, we sail at dawn.")
    return {"letter": f"Dear {name}, we sail at dawn.", "release": RELEASE}
