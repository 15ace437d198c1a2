"""An authorization server of Authlib on Flask."""

import os
import time

# Plain HTTP, on loopback only.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.flask_oauth2 import AuthorizationServer  # noqa: E402
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants, list_to_scope, scope_to_list  # noqa: E402
from authlib.oauth2.rfc7662 import IntrospectionEndpoint  # noqa: E402
from flask import Flask  # noqa: E402

from serving import CLIENTS, SCOPES, TOKEN_SECONDS, serve  # noqa: E402


class Client(ClientMixin):
    def __init__(self, client_id, secret):
        self.client_id = client_id
        self.secret = secret

    def get_client_id(self):
        return self.client_id

    def get_allowed_scope(self, scope):
        asked = SCOPES if not scope else scope_to_list(scope)
        return list_to_scope([one for one in asked if one in SCOPES])

    def check_client_secret(self, client_secret):
        return self.secret == client_secret

    def check_endpoint_auth_method(self, method, endpoint):
        # `post` has to send its secret in the body, the others as Basic.
        return method == ("client_secret_post" if self.client_id == "post" else "client_secret_basic")

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"


class Token(TokenMixin):
    def __init__(self, client_id, values):
        self.client_id = client_id
        self.values = values
        self.issued_at = int(time.time())

    def get_expires_at(self):
        return self.issued_at + self.values["expires_in"]

    def is_expired(self):
        return time.time() >= self.get_expires_at()

    def is_revoked(self):
        return False


clients = {client_id: Client(client_id, secret) for client_id, secret in CLIENTS.items()}
tokens = {}


class ClientCredentialsGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]


class Introspection(IntrospectionEndpoint):
    def check_permission(self, token, client, request):
        return client.client_id == "plain"

    def query_token(self, token_string, token_type_hint):
        return tokens.get(token_string)

    def introspect_token(self, token):
        return {
            "active": True,
            "client_id": token.client_id,
            "scope": token.values["scope"],
            "exp": token.get_expires_at(),
        }


def save_token(token, request):
    tokens[token["access_token"]] = Token(request.client.client_id, token)


app = Flask(__name__)
app.config.update(
    OAUTH2_SCOPES_SUPPORTED=SCOPES,
    OAUTH2_TOKEN_EXPIRES_IN={"client_credentials": TOKEN_SECONDS},
)
server = AuthorizationServer(app, query_client=clients.get, save_token=save_token)
server.register_grant(ClientCredentialsGrant)
server.register_endpoint(Introspection)


@app.post("/token")
def token():
    return server.create_token_response()


@app.post("/introspect")
def introspect():
    return server.create_endpoint_response(Introspection.ENDPOINT_NAME)


serve(app, "/token", "/introspect")
