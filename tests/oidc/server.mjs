import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider, errors } from 'oidc-provider';

// The provider prints its notices with console.info; stdout carries the ready line only.
console.log = console.info = console.error;

const SEED_GRANT = 'urn:test:seed-refresh-token';
const CLIENT_SCOPE = 'api:read api:write';
const RESOURCE_TTL = {
  'https://api.example/one': 600,
  'https://api.example/two': 2,
};

function positiveIntEnv(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isSafeInteger(value) || value <= 0) {
    throw new TypeError(`${name} must be a positive integer`);
  }
  return value;
}

const ttlSeconds = positiveIntEnv('TTL_SECONDS', 600);

// A key made at start needs no secret in the repository; GET /jwt-key hands it to the test.
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwtKey = {
  kid: 'jwt-test-key',
  alg: 'ES256',
  private_key_pem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
};

const clients = [
  {
    // Each odd character breaks a client that skips the form-encoding before Basic,
    // or that encodes a space, "+" or "%" the wrong way.
    client_id: 'basic client:1',
    client_secret: 's3cr%t+ /:?&=',
    token_endpoint_auth_method: 'client_secret_basic',
  },
  {
    client_id: 'plain',
    client_secret: 'plain-secret',
    token_endpoint_auth_method: 'client_secret_basic',
  },
  {
    client_id: 'post',
    client_secret: 'post-secret+ %&=',
    token_endpoint_auth_method: 'client_secret_post',
  },
  {
    client_id: 'jwt',
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: {
      keys: [{
        ...publicKey.export({ format: 'jwk' }), kid: jwtKey.kid, alg: jwtKey.alg, use: 'sig',
      }],
    },
  },
  {
    client_id: 'rotating',
    client_secret: 'rotating-secret',
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['client_credentials', 'refresh_token', SEED_GRANT],
  },
];

const tokenTtl = (_ctx, token) => token.resourceServer?.accessTokenTTL ?? ttlSeconds;

const configuration = {
  clients,
  clientDefaults: {
    grant_types: ['client_credentials'],
    response_types: [],
    scope: CLIENT_SCOPE,
  },
  // The provider refuses a scope it knows and the client may not have, but silently
  // drops one it does not know: api:admin exists so that a test can be refused.
  // offline_access is what makes the refresh_token grant exist at all.
  scopes: ['api:read', 'api:write', 'api:admin', 'offline_access'],
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
    introspection: {
      enabled: true,
      allowedPolicy: (_ctx, client) => client.clientId === 'plain',
    },
    resourceIndicators: {
      enabled: true,
      // A refresh token covers both resources; without this, refreshing it with no
      // resource parameter would be refused as ambiguous.
      defaultResource: () => undefined,
      getResourceServerInfo(_ctx, resource) {
        if (!Object.hasOwn(RESOURCE_TTL, resource)) {
          throw new errors.InvalidTarget();
        }
        return {
          scope: CLIENT_SCOPE,
          accessTokenTTL: RESOURCE_TTL[resource],
          // The introspection endpoint refuses structured tokens.
          accessTokenFormat: 'opaque',
        };
      },
    },
  },
};

const emptyStats = () => ({
  token_calls: 0, by_client: {}, ok: 0, errors: {},
});
let stats = emptyStats();

function count(map, key) {
  map[key] = (map[key] ?? 0) + 1;
}

function countClient(ctx) {
  count(stats.by_client, ctx.oidc.entities.Client?.clientId ?? 'unknown');
}

// Stands in for the browser part of an authorization code flow.
async function seedRefreshToken(provider, ctx) {
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
  const accessToken = new provider.AccessToken(common);

  ctx.body = {
    access_token: await accessToken.save(),
    expires_in: accessToken.expiration,
    refresh_token: await refreshToken.save(),
    scope: CLIENT_SCOPE,
    token_type: accessToken.tokenType,
  };
}

function sendJson(res, body) {
  res.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  res.end(JSON.stringify(body));
}

// The issuer contains the port, so the socket is bound before the provider exists.
const server = createServer();
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
await once(server, 'listening');

const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration);
const handle = provider.callback();

provider.registerGrantType(SEED_GRANT, (ctx) => seedRefreshToken(provider, ctx));

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

const tokenPath = provider.pathFor('token');

server.on('request', (req, res) => {
  switch (`${req.method} ${req.url}`) {
    case 'GET /stats':
      sendJson(res, stats);
      break;
    case 'POST /stats/reset':
      stats = emptyStats();
      sendJson(res, stats);
      break;
    case 'GET /jwt-key':
      sendJson(res, jwtKey);
      break;
    default:
      // Counted on arrival, so that a call the client gave up on is seen too.
      if (req.method === 'POST' && req.url.split('?')[0] === tokenPath) {
        stats.token_calls += 1;
      }
      handle(req, res);
  }
});

// A killed test closes its end of the pipe, which must not leave this process behind.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();
process.on('SIGTERM', () => process.exit(0));

process.stdout.write(`${JSON.stringify({
  issuer,
  token_endpoint: provider.urlFor('token'),
  introspection_endpoint: provider.urlFor('introspection'),
  stats_endpoint: `${issuer}/stats`,
})}\n`);
