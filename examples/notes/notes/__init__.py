"""The application factory: puts configuration, extensions, pages and logging together."""

from flask import Flask, Response, render_template
from flask_migrate import Migrate
from flask_wtf import CSRFProtect
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from . import health, web
from .config import ROOT, Config, from_environment
from .logs import configure_logging
from .models import db

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_app(config: Config | None = None) -> Flask:
    """Build an app from `config`, or from the environment.

    Nothing connects to the database here: gunicorn may load the app once and fork afterwards.
    """
    configure_logging()
    app = Flask(__name__)
    app.config.from_object(config or from_environment())
    db.init_app(app)
    Migrate(app, db, directory=ROOT / "migrations")
    CSRFProtect(app)
    app.register_blueprint(web.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_error_handler(HTTPException, error_page)
    app.after_request(add_security_policy)
    trust_proxies(app, app.config["TRUSTED_PROXIES"])
    return app


def trust_proxies(app: Flask, count: int) -> None:
    """Believe the X-Forwarded headers of `count` proxies. With none in front, anyone could forge them."""
    if count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]


def error_page(error: HTTPException) -> Response:
    """Answer 4xx and 5xx with a page in the site's looks; the headers stay (`Allow` of a 405)."""
    return Response(render_template("error.html", error=error), error.code, error.get_headers())


def add_security_policy(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    return response
