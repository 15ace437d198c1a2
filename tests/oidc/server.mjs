import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { Provider, errors } from 'oidc-provider';
import { makeCertificates } from './certificates.mjs';
import { ASSERTION_ONLY, Store, makeClients } from './clients.mjs';
import {
  CLIENT_SCOPE, TENANT_SCOPES, idpJwt, registerGrants, resourceServerInfo,
} from './grants.mjs';
import {
  RSA_ALGS, handOver, makeKeys, rsaKey,
} from './keys.mjs';
import { Resource } from './resource.mjs';
import { mTLS } from './tls.mjs';

// The provider prints its notices with console.info; stdout carries the ready line only.
console.log = console.info = console.error;

function positiveIntEnv(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isSafeInteger(value) || value <= 0) {
    throw new TypeError(`${name} must be a positive integer`);
  }
  return value;
}

const ttlSeconds = positiveIntEnv('TTL_SECONDS', 600);

const [keys, certificates] = await Promise.all([makeKeys(), makeCertificates()]);

// The issuer contains the port, so the sockets are bound before the provider exists.
async function listening(server, port) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}
const server = createServer();
const tlsServer = createTlsServer({
  cert: certificates.server.cert_pem,
  key: certificates.server.key_pem,
  ca: certificates.ca_pem,
  requestCert: true,
  // Which certificate is good depends on the client, which only the provider knows.
  rejectUnauthorized: false,
});
const issuer = `http://127.0.0.1:${await listening(server, Number(process.env.PORT ?? 0))}`;
const tlsBase = `https://127.0.0.1:${await listening(tlsServer, 0)}`;

const tokenTtl = (_ctx, token) => token.resourceServer?.accessTokenTTL ?? ttlSeconds;

const provider = new Provider(issuer, {
  adapter: Store,
  clients: makeClients(keys, certificates),
  clientDefaults: {
    grant_types: ['client_credentials'],
    response_types: [],
    scope: [CLIENT_SCOPE, ...TENANT_SCOPES].join(' '),
  },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_jwt', 'client_secret_post', 'private_key_jwt', 'none',
    'tls_client_auth', 'self_signed_tls_client_auth',
  ],
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'],
  },
  // The draft of RFC 7523bis: the issuer as the only audience, and a type of its own.
  assertJwtClientAuthClaimsAndHeader(_ctx, claims, header, client) {
    if (client.clientId === 'jwt-strict'
      && (claims.aud !== issuer || header.typ !== 'client-authentication+jwt')) {
      throw new errors.InvalidClientAuth('aud or typ is not what the draft asks for');
    }
  },
  // What introspection tells beside the standard's own: whom the token speaks for.
  extraTokenClaims: (_ctx, token) => token.onBehalf,
  discovery: { mtls_endpoint_aliases: { token_endpoint: `${tlsBase}/token` } },
  // The provider refuses a scope it knows and the client may not have, but silently
  // drops one it does not know: api:admin exists so that a test can be refused.
  // offline_access is what makes the refresh_token grant exist at all.
  scopes: ['api:read', 'api:write', 'api:admin', 'offline_access', ...TENANT_SCOPES],
  ttl: {
    ClientCredentials: tokenTtl,
    AccessToken: tokenTtl,
    RefreshToken: 3600,
    Grant: 3600,
  },
  rotateRefreshToken: true,
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (ctx) => ctx.oidc.client?.clientId.startsWith('dpop') ?? false,
    },
    introspection: {
      enabled: true,
      allowedPolicy: (_ctx, client) => client.clientId === 'plain',
    },
    mTLS,
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // A refresh token covers both resources; without this, refreshing it with no
      // resource parameter would be refused as ambiguous.
      defaultResource: () => undefined,
      getResourceServerInfo: (_ctx, resource) => resourceServerInfo(resource),
    },
  },
});
const resource = new Resource(provider, issuer);
const handle = provider.callback();
const tokenPath = provider.pathFor('token');
const byAssertionPath = `${tokenPath}/by-assertion`;

registerGrants(provider, keys, {
  ttlSeconds,
  assertionAudiences: [provider.urlFor('token'), `${issuer}${byAssertionPath}`],
});

const emptyStats = () => ({
  token_calls: 0, by_client: {}, ok: 0, errors: {}, revoked: 0,
});
let stats = emptyStats();

function count(map, key) {
  map[key] = (map[key] ?? 0) + 1;
}

function countClient(ctx) {
  count(stats.by_client, ctx.oidc.entities.Client?.clientId ?? 'unknown');
}

provider.on('grant.revoked', () => {
  stats.revoked += 1;
});
provider.on('grant.success', (ctx) => {
  stats.ok += 1;
  countClient(ctx);
});
provider.on('grant.error', (ctx, err) => {
  count(stats.errors, err.error);
  countClient(ctx);
});
provider.on('server_error', (ctx, err) => {
  console.error(err);
  if (ctx.oidc?.route === 'token') {
    count(stats.errors, 'server_error');
    countClient(ctx);
  }
});

function sendJson(res, body) {
  res.writeHead(body ? 200 : 404, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  res.end(JSON.stringify(body ?? { error: 'there is no such thing' }));
}

function answerToken(req, res) {
  // Counted on arrival, so that a call the client gave up on is seen too.
  stats.token_calls += 1;
  handle(req, res);
}

async function answer(req, res) {
  const { pathname, searchParams: query } = new URL(req.url, issuer);
  switch (`${req.method} ${pathname}`) {
    case 'GET /stats':
      sendJson(res, stats);
      break;
    case 'POST /stats/reset':
      stats = emptyStats();
      sendJson(res, stats);
      break;
    case 'GET /resource/stats':
      sendJson(res, resource.stats());
      break;
    case 'POST /resource/rotate':
      sendJson(res, resource.rotate(Number(query.get('grace') ?? 0)));
      break;
    case 'GET /resource':
    case 'POST /resource': {
      const { status, headers, body } = await resource.answer(req);
      res.writeHead(status, headers);
      res.end(JSON.stringify(body));
      break;
    }
    case 'GET /jwt-key': {
      const alg = query.get('alg');
      const known = alg ? keys.byAlg[alg] : keys.jwt;
      const key = RSA_ALGS.includes(alg) ? await rsaKey(alg) : known;
      sendJson(res, handOver(key, query.get('format') ?? 'pkcs8'));
      break;
    }
    case 'GET /idp-jwt': {
      const claims = { sub: query.get('sub') ?? 'alice', aud: query.get('aud') ?? issuer };
      const jwt = await idpJwt(keys.idp, claims, Number(query.get('ttl') ?? 300));
      sendJson(res, { jwt, public_jwk: keys.idp.jwk });
      break;
    }
    case 'GET /tls':
      sendJson(res, {
        ca_pem: certificates.ca_pem,
        token_endpoint: `${tlsBase}${tokenPath}`,
        clients: certificates.clients,
      });
      break;
    case `POST ${byAssertionPath}`:
      // As at Google: the assertion alone is enough. The provider wants a client all the same.
      req.headers.authorization = `Basic ${btoa(`${ASSERTION_ONLY.id}:${ASSERTION_ONLY.secret}`)}`;
      req.url = tokenPath;
      answerToken(req, res);
      break;
    case `POST ${tokenPath}`:
      answerToken(req, res);
      break;
    default:
      handle(req, res);
  }
}

server.on('request', answer);
tlsServer.on('request', answer);

// A killed test closes its end of the pipe, which must not leave this process behind.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();
process.on('SIGTERM', () => process.exit(0));

process.stdout.write(`${JSON.stringify({
  issuer,
  token_endpoint: provider.urlFor('token'),
  introspection_endpoint: provider.urlFor('introspection'),
  revocation_endpoint: provider.urlFor('revocation'),
  stats_endpoint: `${issuer}/stats`,
  mtls_token_endpoint: `${tlsBase}${tokenPath}`,
  assertion_endpoint: `${issuer}${byAssertionPath}`,
})}\n`);
