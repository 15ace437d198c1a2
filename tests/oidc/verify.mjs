// Verifies signatures with `jose`, which oidc-provider brings along, at the version in its lock file.
//
// Stdin: a line {"jwk", "jws"} for each signature.
// Stdout: a line {"header", "claims", "thumbprint"} for each, or {"error"}.
// The key comes from the line alone; the algorithm comes from the header, and `jose` refuses one that does not fit the key.
import { createInterface } from 'node:readline';
import { calculateJwkThumbprint, compactVerify, importJWK } from 'jose';

async function verify({ jwk, jws }) {
  const { alg } = JSON.parse(Buffer.from(jws.split('.')[0], 'base64url'));
  const key = await importJWK(jwk, alg);
  const { payload, protectedHeader } = await compactVerify(jws, key);
  const thumbprint = await calculateJwkThumbprint(jwk);
  return { header: protectedHeader, claims: JSON.parse(Buffer.from(payload)), thumbprint };
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await verify(JSON.parse(line)).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(answer));
}
