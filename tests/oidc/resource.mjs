// An API that takes tokens with DPoP proofs alone (RFC 9449 section 7), with a nonce of its own that changes when it is told to.
import { createHash } from 'node:crypto';
import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';

class Refused extends Error {
  constructor(error, text) {
    super(text);
    this.error = error;
  }
}

function demand(condition, error, text) {
  if (!condition) {
    throw new Refused(error, text);
  }
}

export class Resource {
  #provider;

  #issuer;

  #used = new Set();

  #nonce = 1;

  // The older nonces that are good as well.
  #grace = 0;

  #stats = { requests: 0, ok: 0, refused: {} };

  constructor(provider, issuer) {
    this.#provider = provider;
    this.#issuer = issuer;
  }

  // The next nonce. With a grace the last one stays good, and a success brings the new one.
  rotate(grace) {
    this.#nonce += 1;
    this.#grace = grace;
    return { nonce: this.#nonce };
  }

  stats() {
    return this.#stats;
  }

  async answer(req) {
    this.#stats.requests += 1;
    const headers = { 'content-type': 'application/json', 'dpop-nonce': `nonce-${this.#nonce}` };
    try {
      const body = await this.#verify(req);
      this.#stats.ok += 1;
      return { status: 200, headers, body };
    } catch (cause) {
      const error = cause instanceof Refused ? cause.error : 'invalid_dpop_proof';
      this.#stats.refused[error] = (this.#stats.refused[error] ?? 0) + 1;
      headers['www-authenticate'] = `DPoP error="${error}", algs="ES256"`;
      return { status: 401, headers, body: { error, error_description: cause.message } };
    }
  }

  async #verify(req) {
    const [scheme, token] = (req.headers.authorization ?? '').split(' ');
    demand(scheme === 'DPoP', 'invalid_token', 'the scheme is not DPoP');
    const found = await this.#provider.ClientCredentials.find(token)
      ?? await this.#provider.AccessToken.find(token);
    demand(found?.isValid, 'invalid_token', 'the token is not known');
    const { payload, protectedHeader } = await jwtVerify(req.headers.dpop ?? '', EmbeddedJWK, {
      typ: 'dpop+jwt', algorithms: ['ES256', 'EdDSA'], maxTokenAge: 30, clockTolerance: 5,
    });
    const thumbprint = await calculateJwkThumbprint(protectedHeader.jwk);
    demand(thumbprint === found.jkt, 'invalid_token', 'the token is bound to another key');
    demand(payload.htm === req.method, 'invalid_dpop_proof', `htm is ${payload.htm}`);
    const url = new URL(req.url, this.#issuer);
    url.search = '';
    demand(payload.htu === url.href, 'invalid_dpop_proof', `htu is ${payload.htu}`);
    const ath = createHash('sha256').update(token).digest('base64url');
    demand(payload.ath === ath, 'invalid_dpop_proof', 'ath is that of another token');
    demand(!this.#used.has(payload.jti), 'invalid_dpop_proof', 'the jti was used before');
    this.#used.add(payload.jti);
    const number = Number(/^nonce-(\d+)$/.exec(payload.nonce)?.[1]);
    const isGood = number <= this.#nonce && number >= this.#nonce - this.#grace;
    demand(isGood, 'use_dpop_nonce', `the nonce is ${payload.nonce}`);
    return { client_id: found.clientId, thumbprint };
  }
}
