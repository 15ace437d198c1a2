// The grants that the provider does not bring itself.
import { errors } from 'oidc-provider';
import { SEED_GRANT } from './clients.mjs';

export const CLIENT_SCOPE = 'api:read api:write';
export const RESOURCE_TTL = {
  'https://api.example/one': 600,
  'https://api.example/two': 2,
};

export function resourceServerInfo(resource) {
  if (!Object.hasOwn(RESOURCE_TTL, resource)) {
    throw new errors.InvalidTarget();
  }
  return {
    scope: CLIENT_SCOPE,
    accessTokenTTL: RESOURCE_TTL[resource],
    // The introspection endpoint refuses structured tokens.
    accessTokenFormat: 'opaque',
  };
}

export function registerGrants(provider) {
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
    const accessToken = new provider.AccessToken(common);

    ctx.body = {
      access_token: await accessToken.save(),
      expires_in: accessToken.expiration,
      refresh_token: await refreshToken.save(),
      scope: CLIENT_SCOPE,
      token_type: accessToken.tokenType,
    };
  }

  provider.registerGrantType(SEED_GRANT, seedRefreshToken);
}
