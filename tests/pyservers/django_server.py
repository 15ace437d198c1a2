"""An authorization server of django-oauth-toolkit, with a database in memory."""

import secrets
import threading

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
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connections  # noqa: E402
from django.urls import path  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
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

# A database in memory belongs to one connection. All threads share it, one request at a time.
connection = connections["default"]
connection.inc_thread_sharing()
one_at_a_time = threading.Lock()
django_app = get_wsgi_application()


def app(environ, start_response):
    with one_at_a_time:
        connections["default"] = connection
        response = django_app(environ, start_response)
        try:
            return [b"".join(response)]
        finally:
            response.close()


serve(app, "/token", "/introspect")
