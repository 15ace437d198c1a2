"""Verifies a JWT with jwcrypto, a library that has nothing in common with the code under test.

Reads {"jwt": .., "jwk": public key} from standard input. Writes {"header": .., "claims": ..}, or {"claims": null}
for a signature that is not good.
"""

import json
import sys

from jwcrypto import jwk, jws

given = json.load(sys.stdin)
token = jws.JWS()
token.allowed_algs = ["ES256", "ES384", "PS256", "RS256", "EdDSA", "HS256"]
try:
    token.deserialize(given["jwt"], jwk.JWK(**given["jwk"]))
except (jws.InvalidJWSObject, jws.InvalidJWSSignature):
    print(json.dumps({"claims": None}))
else:
    print(json.dumps({"header": token.jose_header, "claims": json.loads(token.payload)}))
