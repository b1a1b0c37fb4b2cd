"""The extension for Flask: factories, several applications, its settings, what consent is asked with."""

from __future__ import annotations

import traceback
from typing import Any

import flask
import pytest

import brockman
from brockman.exceptions import ConfigurationError
from brockman.flask import FocusLab
from brockman.testing import capture
from tests.support.client import KEY


def make(focuslab: FocusLab, name: str, **config: Any) -> flask.Flask:
    """Return an application of a factory."""
    app = flask.Flask(name)
    app.config.update({"FL_API_KEY": KEY, "TESTING": True, **config})
    focuslab.init_app(app)

    @app.get("/")
    def page() -> str:
        brockman.current().record_trigger("viewed", name)
        return "ab"

    return app


def test_one_extension_serves_several_applications() -> None:
    """Each has the settings of its own configuration."""
    focuslab = FocusLab()
    shop = make(focuslab, "shop", FL_COOKIE_NAME="shop_actor")
    blog = make(focuslab, "blog", FL_API_KEY="another key", FL_COOKIE_DOMAIN="example.org")
    with capture() as outbox:
        cookies = [app.test_client().get("/").headers["Set-Cookie"] for app in (shop, blog)]
        assert cookies[0].startswith("shop_actor=")
        assert "domain=example.org" in cookies[1].lower()
        assert [trigger.obj for trigger in outbox] == ["shop", "blog"]
        with blog.app_context():
            assert focuslab.client.record_trigger(42, "imported", "posts")


def test_consent_is_asked_with_the_request_of_flask() -> None:
    """Which knows the session, the user, the arguments."""
    asked: list[Any] = []

    def may_track(request: flask.Request) -> bool:
        asked.append((type(request), request.args["consent"], flask.session.get("consent")))
        return request.args["consent"] == "yes"

    app = make(FocusLab(may_track=may_track), "shop", SECRET_KEY="secret")
    with capture() as outbox:
        answers = [app.test_client().get(f"/?consent={answer}") for answer in ("yes", "no")]
        assert ["Set-Cookie" in answer.headers for answer in answers] == [True, False]
        assert len(outbox) == 1
    assert asked == [(flask.Request, "yes", None), (flask.Request, "no", None)]


def test_an_application_is_set_up_once() -> None:
    """A second time would ask everything twice."""
    focuslab = FocusLab()
    app = make(focuslab, "shop")
    with pytest.raises(ConfigurationError, match="'shop'"):
        focuslab.init_app(app)
    with flask.Flask("blog").app_context(), pytest.raises(ConfigurationError, match="'blog'; call init_app"):
        _ = focuslab.client


@pytest.mark.parametrize("name", ["FL_COOKIE_AGE", "FL_FLUSH_INTERVAL", "FL_MAY_TRACK"])
def test_a_wrong_setting_of_the_configuration_raises_in_tests(name: str) -> None:
    """As soon as the application is made. No frame shows the key, which the configuration has."""
    app = flask.Flask("shop")
    app.config.update({"FL_API_KEY": KEY, "TESTING": True, name: "long"})
    with pytest.raises(ConfigurationError, match="(?i)" + name.removeprefix("FL_")) as caught:
        FocusLab(app)
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(trace.format())
