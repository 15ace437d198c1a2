// The grants that the provider does not bring itself: token exchange (RFC 8693), JWT bearer
// (RFC 7523, section 2.1), and a grant of our own that stands in for a login.
import { randomUUID } from 'node:crypto';
import {
  SignJWT, createLocalJWKSet, decodeJwt, jwtVerify,
} from 'jose';
import { errors } from 'oidc-provider';
import validateDpop, { checkDpopReplay } from 'oidc-provider/lib/helpers/validate_dpop.js';
import { peerCertificate } from './tls.mjs';
import { JWT_BEARER, SEED_GRANT, TOKEN_EXCHANGE } from './clients.mjs';

export const CLIENT_SCOPE = 'api:read api:write';
// Scopes of tenants, for tests of many keys.
export const TENANT_SCOPES = Array.from({ length: 20 }, (_, number) => `tenant:${number}`);
export const RESOURCE_TTL = {
  'https://api.example/one': 600,
  'https://api.example/two': 2,
};
const AUDIENCES = {
  'api-one': 'https://api.example/one',
  'api-two': 'https://api.example/two',
};

// An identity provider whose JWTs this server trusts, as subject tokens and as assertions.
export const IDP = 'https://idp.example';

const TYPE = 'urn:ietf:params:oauth:token-type:';
const TOLERANCE_SECONDS = 15;
const LONGEST_ASSERTION_SECONDS = 3600;

const refusal = (code, text) => new errors.CustomOIDCProviderError(code, text);

export function resourceServerInfo(resource) {
  if (!Object.hasOwn(RESOURCE_TTL, resource)) {
    throw new errors.InvalidTarget();
  }
  return {
    scope: [CLIENT_SCOPE, ...TENANT_SCOPES].join(' '),
    accessTokenTTL: RESOURCE_TTL[resource],
    // The introspection endpoint refuses structured tokens.
    accessTokenFormat: 'opaque',
  };
}

// A JWT of the identity provider.
export function idpJwt(key, claims, ttl) {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ jti: randomUUID(), ...claims })
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'JWT' })
    .setIssuer(IDP)
    .setIssuedAt(now)
    .setExpirationTime(now + ttl)
    .sign(key.privateKey);
}

const listOf = (value) => (value === undefined ? [] : [value].flat());

function knownTarget(params) {
  const resources = listOf(params.resource);
  const named = listOf(params.audience).map((audience) => AUDIENCES[audience] ?? audience);
  const targets = new Set([...resources, ...named]);
  for (const target of targets) {
    resourceServerInfo(target);
  }
  // An access token of this server has one audience.
  if (targets.size > 1) {
    throw new errors.InvalidTarget('only a single target is supported');
  }
  return [...targets][0];
}

// The scope that was asked for, and no more than what the subject has.
function grantedScope(requested, granted) {
  if (requested === undefined) {
    return granted;
  }
  const allowed = new Set(granted.split(' '));
  const more = requested.split(' ').find((scope) => !allowed.has(scope));
  if (more !== undefined) {
    throw new errors.InvalidScope('requested scope is not allowed', more);
  }
  return requested;
}

export function registerGrants(provider, keys, options) {
  const { ttlSeconds, assertionAudiences } = options;

  async function verified(ctx, jwt) {
    const { client } = ctx.oidc;
    const { iss } = decodeJwt(jwt);
    let jwks;
    if (iss === IDP) {
      jwks = { keys: [keys.idp.jwk] };
    } else if (iss === client.clientId && client.jwks) {
      jwks = structuredClone(client.jwks);
    } else {
      throw new Error('the issuer is not known');
    }
    const audience = [...ctx.oidc.clientJwtAuthExpectedAudience(), ...assertionAudiences];
    const { payload } = await jwtVerify(jwt, createLocalJWKSet(jwks), {
      audience,
      clockTolerance: TOLERANCE_SECONDS,
      requiredClaims: ['sub', 'aud', 'exp'],
    });
    const now = Math.floor(Date.now() / 1000);
    if (payload.exp - now > LONGEST_ASSERTION_SECONDS + TOLERANCE_SECONDS) {
      throw new Error('the JWT lives longer than an hour');
    }
    return payload;
  }

  // A token of this server, or a JWT; undefined if it is neither.
  async function known(ctx, token, type) {
    if (type === `${TYPE}access_token`) {
      const found = await provider.AccessToken.find(token)
        ?? await provider.ClientCredentials.find(token);
      return found?.isValid && {
        sub: found.extra?.sub ?? found.accountId ?? found.clientId,
        scope: found.scope ?? CLIENT_SCOPE,
        remaining: found.remainingTTL,
      };
    }
    if (type === `${TYPE}jwt` || type === `${TYPE}id_token`) {
      try {
        const { sub, exp } = await verified(ctx, token);
        return { sub, scope: CLIENT_SCOPE, remaining: exp - Math.floor(Date.now() / 1000) };
      } catch (error) {
        console.error(error.message);
        return undefined;
      }
    }
    throw new errors.InvalidRequest(`this token type is not supported: ${type}`);
  }

  async function issue(ctx, { subject, act, scope, target }) {
    const { client } = ctx.oidc;
    const dPoP = await validateDpop(provider, ctx);
    const ttl = target ? RESOURCE_TTL[target] : ttlSeconds;
    const token = new provider.ClientCredentials({
      client,
      scope,
      expiresIn: Math.max(1, Math.min(ttl, subject.remaining)),
    });
    token.onBehalf = { sub: subject.sub, ...(act && { act }) };
    if (target) {
      token.resourceServer = new provider.ResourceServer(target, resourceServerInfo(target));
    }
    if (client.tlsClientCertificateBoundAccessTokens) {
      token.setThumbprint('x5t', peerCertificate(ctx));
    }
    if (dPoP) {
      await checkDpopReplay(provider, ctx, dPoP, client.clientId);
      token.setThumbprint('jkt', dPoP.thumbprint);
    }
    const value = await token.save();
    return {
      access_token: value, expires_in: token.expiration, scope, token_type: token.tokenType,
    };
  }

  async function exchange(ctx) {
    const { params } = ctx.oidc;
    if (!params.subject_token || !params.subject_token_type) {
      throw new errors.InvalidRequest('subject_token and subject_token_type are required');
    }
    if (!params.actor_token !== !params.actor_token_type) {
      throw new errors.InvalidRequest('actor_token and actor_token_type go together');
    }
    const subject = await known(ctx, params.subject_token, params.subject_token_type);
    if (!subject) {
      throw new errors.InvalidRequest('the subject token is not valid');
    }
    let act;
    if (params.actor_token) {
      const actor = await known(ctx, params.actor_token, params.actor_token_type);
      if (!actor) {
        throw new errors.InvalidRequest('the actor token is not valid');
      }
      act = { sub: actor.sub };
    }
    const target = knownTarget(params);
    const scope = grantedScope(params.scope, subject.scope);

    const wanted = params.requested_token_type ?? `${TYPE}access_token`;
    if (wanted === `${TYPE}access_token`) {
      ctx.body = await issue(ctx, {
        subject, act, scope, target,
      });
    } else if (wanted === `${TYPE}jwt`) {
      // Not for a resource: an assertion for the next authorization server.
      const ttl = Math.max(1, Math.min(ttlSeconds, subject.remaining));
      const claims = { sub: subject.sub, aud: target ?? provider.issuer, act };
      ctx.body = {
        access_token: await idpJwt(keys.idp, claims, ttl), expires_in: ttl, token_type: 'N_A',
      };
    } else {
      throw new errors.InvalidRequest(`this token type is not supported: ${wanted}`);
    }
    ctx.body.issued_token_type = wanted;
  }

  async function jwtBearer(ctx) {
    const { params } = ctx.oidc;
    if (!params.assertion) {
      throw new errors.InvalidRequest('assertion is required');
    }
    let claims;
    try {
      claims = await verified(ctx, params.assertion);
    } catch (error) {
      throw refusal('invalid_grant', error.message);
    }
    // A `jti` is optional (RFC 7523, section 3). One that is there is good for one time.
    if (claims.jti !== undefined && !await provider.ReplayDetection.unique(
      claims.iss,
      claims.jti,
      claims.exp + TOLERANCE_SECONDS,
    )) {
      throw refusal('invalid_grant', 'the assertion has been used before');
    }
    const subject = { sub: claims.sub, remaining: ttlSeconds };
    ctx.body = await issue(ctx, {
      subject, scope: grantedScope(params.scope, CLIENT_SCOPE), target: knownTarget(params),
    });
  }

  // Stands in for the browser part of an authorization code flow.
  async function seedRefreshToken(ctx) {
    const { client } = ctx.oidc;
    const accountId = 'test-user';

    const grant = new provider.Grant({ accountId, clientId: client.clientId });
    grant.addOIDCScope(CLIENT_SCOPE);
    const resource = Object.keys(RESOURCE_TTL);
    resource.forEach((identifier) => grant.addResourceScope(identifier, CLIENT_SCOPE));
    const grantId = await grant.save();

    const common = {
      accountId, client, grantId, gty: SEED_GRANT, scope: CLIENT_SCOPE,
    };
    const refreshToken = new provider.RefreshToken({ ...common, resource, rotations: 0 });
    // As after a login of a public client with this key (RFC 9449 section 5).
    if (ctx.oidc.params.jkt) {
      refreshToken.setThumbprint('jkt', ctx.oidc.params.jkt);
    }
    const accessToken = new provider.AccessToken(common);

    ctx.body = {
      access_token: await accessToken.save(),
      expires_in: accessToken.expiration,
      refresh_token: await refreshToken.save(),
      scope: CLIENT_SCOPE,
      token_type: accessToken.tokenType,
    };
  }

  provider.registerGrantType(SEED_GRANT, seedRefreshToken, ['jkt']);
  provider.registerGrantType(TOKEN_EXCHANGE, exchange, [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type',
    'requested_token_type', 'resource', 'audience', 'scope',
  ], ['resource', 'audience']);
  provider.registerGrantType(JWT_BEARER, jwtBearer, [
    'assertion', 'scope', 'resource', 'audience',
  ], ['resource', 'audience']);
}
