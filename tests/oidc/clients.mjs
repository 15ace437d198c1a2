// Who may ask this server for tokens. README.md has the same as a table.
import { X509Certificate } from 'node:crypto';
import MemoryAdapter from 'oidc-provider/lib/adapters/memory_adapter.js';
import { PKI_SUBJECT } from './certificates.mjs';
import { RSA_ALGS, rsaKey } from './keys.mjs';

export const SEED_GRANT = 'urn:test:seed-refresh-token';
export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

// The client behind `POST /token/by-assertion`, where the caller names no client.
export const ASSERTION_ONLY = { id: 'assertion-only', secret: 'assertion-only-secret' };

const ALL_GRANTS = ['client_credentials', TOKEN_EXCHANGE, JWT_BEARER];

function basic(id, secret, grants = ['client_credentials']) {
  return {
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: grants,
  };
}

function signing(id, key, grants = ALL_GRANTS) {
  return {
    client_id: id,
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: key.alg,
    jwks: { keys: [key.jwk] },
    grant_types: grants,
  };
}

function withX5c({ cert_pem: pem }) {
  const certificate = new X509Certificate(pem);
  return { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
}

const idFor = (alg) => `jwt-${alg.toLowerCase()}`;

// The provider's own place for it keeps the last thousand things, and so forgets which refresh tokens were used.
const everything = new Map();

// The provider's own store without that limit, which also knows the clients with RSA keys.
export class Store extends MemoryAdapter {
  #model;

  constructor(model) {
    super(model, everything);
    this.#model = model;
  }

  async find(id) {
    const alg = this.#model === 'Client' && RSA_ALGS.find((name) => idFor(name) === id);
    return alg ? signing(id, await rsaKey(alg)) : super.find(id);
  }
}

export function makeClients(keys, certificates) {
  const own = certificates.clients['tls-self-signed'];
  return [
    // Each odd character breaks a client that skips the form-encoding before Basic,
    // or that encodes a space, "+" or "%" the wrong way.
    basic('basic client:1', 's3cr%t+ /:?&='),
    basic('plain', 'plain-secret'),
    { ...basic('post', 'post-secret+ %&='), token_endpoint_auth_method: 'client_secret_post' },
    basic('rotating', 'rotating-secret', ['client_credentials', 'refresh_token', SEED_GRANT]),
    basic('exchange', 'exchange-secret', ALL_GRANTS),
    basic(ASSERTION_ONLY.id, ASSERTION_ONLY.secret, [JWT_BEARER]),
    {
      ...basic('dpop', 'dpop-secret', [...ALL_GRANTS, 'refresh_token', SEED_GRANT]),
      dpop_bound_access_tokens: true,
    },
    {
      client_id: 'dpop-public',
      token_endpoint_auth_method: 'none',
      grant_types: [...ALL_GRANTS.slice(1), 'refresh_token', SEED_GRANT],
      dpop_bound_access_tokens: true,
    },
    {
      client_id: 'public',
      token_endpoint_auth_method: 'none',
      grant_types: [TOKEN_EXCHANGE, JWT_BEARER],
    },
    {
      client_id: 'secret-jwt',
      client_secret: 'secret-jwt: a secret of more than thirty-two bytes',
      token_endpoint_auth_method: 'client_secret_jwt',
      token_endpoint_auth_signing_alg: 'HS256',
    },
    signing('jwt', keys.jwt, ['client_credentials']),
    signing('jwt-strict', keys.byAlg.ES256),
    ...Object.values(keys.byAlg).map((key) => signing(idFor(key.alg), key)),
    {
      client_id: 'tls-pki',
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: PKI_SUBJECT,
      tls_client_certificate_bound_access_tokens: true,
      grant_types: ALL_GRANTS,
    },
    {
      client_id: 'tls-self-signed',
      token_endpoint_auth_method: 'self_signed_tls_client_auth',
      jwks: { keys: [withX5c(own), withX5c(own.rotated)] },
      tls_client_certificate_bound_access_tokens: true,
      grant_types: ALL_GRANTS,
    },
  ];
}
