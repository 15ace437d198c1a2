"""An authorization server of django-oauth-toolkit, with a database in memory.

Its refresh tokens rotate, and it ends the family of one that comes too late. For `GRACE` seconds (0) one is accepted
again. `/clock?forward=SECONDS` moves its clock, and `/stats` counts the families that ended, as `revoked`.
"""

import datetime
import os
import secrets
import threading
from urllib.parse import parse_qs

import django
from django.conf import settings

from serving import CLIENTS, SCOPES, TOKEN_SECONDS, serve

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    LOGGING_CONFIG=None,
    # The tables as they are now, without the steps that led there: a start takes half the time.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "oauth2_provider": None},
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": TOKEN_SECONDS,
        "SCOPES": {**{scope: scope for scope in SCOPES}, "introspection": "introspection"},
        "DEFAULT_SCOPES": SCOPES,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": int(os.environ.get("GRACE", "0")),
    },
    # The one user of this server logs in each time that a test does.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connections  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import get_application_model, get_refresh_token_model  # noqa: E402
from oauth2_provider.views import IntrospectTokenView, TokenView  # noqa: E402

urlpatterns = [
    path("token", TokenView.as_view()),
    path("introspect", IntrospectTokenView.as_view()),
]

call_command("migrate", run_syncdb=True, verbosity=0)
Application = get_application_model()
for client_id, secret in CLIENTS.items():
    Application.objects.create(
        name=client_id,
        client_id=client_id,
        client_secret=secret,
        # A hashed secret would cost a second of work at each call.
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )

# Whoever logs in here gets a refresh token (RFC 6749 section 4.3 stands in for the browser).
from django.contrib.auth.models import User  # noqa: E402

User.objects.create_user("alice", password="wonderland")
Application.objects.create(
    name="rotating",
    client_id="rotating",
    client_secret="rotating-secret",
    hash_client_secret=False,
    client_type=Application.CLIENT_CONFIDENTIAL,
    authorization_grant_type=Application.GRANT_PASSWORD,
)

forward = datetime.timedelta()
real_now = timezone.now
timezone.now = lambda: real_now() + forward

RefreshToken = get_refresh_token_model()
revoke_family = RefreshToken.revoke_family
revoked = 0


def counted(family):
    global revoked
    revoked += 1
    revoke_family(family)


RefreshToken.revoke_family = counted

# A database in memory belongs to one connection. All threads share it, one request at a time.
connection = connections["default"]
connection.inc_thread_sharing()
one_at_a_time = threading.Lock()
django_app = get_wsgi_application()


def move_clock(environ, start_response):
    global forward
    forward += datetime.timedelta(seconds=int(parse_qs(environ["QUERY_STRING"])["forward"][0]))
    start_response("204 No Content", [])
    return [b""]


def app(environ, start_response):
    if environ["PATH_INFO"] == "/clock":
        return move_clock(environ, start_response)
    with one_at_a_time:
        connections["default"] = connection
        response = django_app(environ, start_response)
        try:
            return [b"".join(response)]
        finally:
            response.close()


serve(app, "/token", "/introspect", lambda: {"revoked": revoked})
