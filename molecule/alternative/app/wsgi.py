"""The smallest app: no framework, no database."""


def app(environ, start_response):
    """Answer 204 to /up, a line to /, and 404 to anything else."""
    status, body = {"/up": ("204 No Content", b""), "/": ("200 OK", b"Plain\n")}.get(
        environ["PATH_INFO"], ("404 Not Found", b"Nothing here\n")
    )
    start_response(status, [("Content-Type", "text/plain")] if body else [])
    return [body]
