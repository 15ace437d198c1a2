// Key pairs that are made at each start, so that no secret stands in the repository.
import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';

const generate = promisify(generateKeyPair);

// Which of node's export types belongs to each format. PKCS#8 fits every key.
const PEM_TYPES = {
  ec: ['pkcs8', 'sec1'],
  rsa: ['pkcs8', 'pkcs1'],
  ed25519: ['pkcs8'],
};

async function pair(alg, kid, type, options) {
  const { publicKey, privateKey } = await generate(type, options);
  return keyOf(alg, kid, publicKey, privateKey);
}

function keyOf(alg, kid, publicKey, privateKey) {
  return {
    alg,
    kid,
    privateKey,
    publicKey,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' },
  };
}

// RS256 and PS256 have the same key pair, made only when a test asks for it: an RSA key takes
// longer than the whole start of the server.
let rsa;
async function makeRsaKeys() {
  const rs256 = await pair('RS256', 'rs256-key', 'rsa', { modulusLength: 2048 });
  return {
    RS256: rs256,
    PS256: keyOf('PS256', 'ps256-key', rs256.publicKey, rs256.privateKey),
  };
}

export const RSA_ALGS = ['RS256', 'PS256'];

export async function rsaKey(alg) {
  rsa ??= makeRsaKeys();
  return (await rsa)[alg];
}

// The key of the client `jwt`, the key of the identity provider, and by algorithm the keys of the
// clients `jwt-*`, without RSA.
export async function makeKeys() {
  const [jwt, idp, es256, es384, eddsa] = await Promise.all([
    pair('ES256', 'jwt-test-key', 'ec', { namedCurve: 'P-256' }),
    pair('ES256', 'idp-key', 'ec', { namedCurve: 'P-256' }),
    pair('ES256', 'es256-key', 'ec', { namedCurve: 'P-256' }),
    pair('ES384', 'es384-key', 'ec', { namedCurve: 'P-384' }),
    pair('EdDSA', 'eddsa-key', 'ed25519', {}),
  ]);
  return { jwt, idp, byAlg: { ES256: es256, ES384: es384, EdDSA: eddsa } };
}

// What `GET /jwt-key` answers, or undefined where the key has no such format.
export function handOver(key, format) {
  if (!PEM_TYPES[key?.privateKey.asymmetricKeyType]?.includes(format)) {
    return undefined;
  }
  return {
    kid: key.kid,
    alg: key.alg,
    private_key_pem: key.privateKey.export({ type: format, format: 'pem' }),
    public_jwk: key.jwk,
  };
}
