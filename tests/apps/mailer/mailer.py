"""A mailer: letters are asked for here, and written by an RQ worker."""

from flask import Flask, Response, abort, jsonify, request
from letters import RELEASE, connection, write
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

app = Flask(__name__)
queue = Queue("letters", connection=connection)


@app.get("/")
def index() -> str:
    return f"<h1>Mailer</h1><p>{connection.llen('outbox')} letters, release {RELEASE}</p>"


@app.get("/health")
def health() -> Response:
    connection.ping()
    return jsonify(status="ok", redis="ok", release=RELEASE)


@app.post("/letters")
def ask() -> tuple[Response, int]:
    return jsonify(task=queue.enqueue(write, request.get_json()["name"], result_ttl=3600).id), 202


@app.get("/tasks/<task>")
def result(task: str) -> Response:
    try:
        job = Job.fetch(task, connection=connection)
    except NoSuchJobError:
        abort(404)
    state = job.get_status(refresh=True)
    return jsonify(state="SUCCESS" if state == "finished" else str(state), result=job.return_value())
