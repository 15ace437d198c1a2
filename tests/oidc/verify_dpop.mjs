// Verifies DPoP proofs (RFC 9449 section 4.3) with `jose` and Node's own URL parser.
//
// Stdin: a line {"proof", "method", "uri", "token", "nonce"} for each request. A nonce of null: any, or none.
// Stdout: a line {"thumbprint"} for each, or {"error"}.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';

const seen = new Set();

function demand(condition, what) {
  if (!condition) {
    throw new Error(what);
  }
}

async function verify({ proof, method, uri, token, nonce }) {
  const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, {
    typ: 'dpop+jwt', maxTokenAge: 60, clockTolerance: 5, algorithms: ['ES256', 'EdDSA', 'RS256'],
    requiredClaims: ['jti', 'htm', 'htu', 'iat', 'ath'],
  });
  demand(!('d' in protectedHeader.jwk), 'the header has a private key');
  demand(!seen.has(payload.jti), 'the jti was used before');
  seen.add(payload.jti);
  demand(payload.htm === method, `htm is ${payload.htm}`);
  const url = new URL(uri);
  url.search = '';
  url.hash = '';
  // RFC 3986 section 6.2.2.1, which Node's parser leaves out.
  const named = url.href.replace(/%[0-9a-f]{2}/gi, (escape) => escape.toUpperCase());
  demand(payload.htu === named, `htu is ${payload.htu}, not ${named}`);
  demand(payload.ath === createHash('sha256').update(token).digest('base64url'), 'ath is that of another token');
  demand(nonce === null || payload.nonce === nonce, `nonce is ${payload.nonce}`);
  return { thumbprint: await calculateJwkThumbprint(protectedHeader.jwk) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await verify(JSON.parse(line)).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(answer));
}
