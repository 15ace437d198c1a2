// What the provider wants to know about the TLS connection of a request (RFC 8705).
import { X509Certificate } from 'node:crypto';
import { subjectOf } from './certificates.mjs';

// The certificate that the client showed; undefined without one, and over plain HTTP.
export function peerCertificate(ctx) {
  const raw = ctx.socket.getPeerCertificate?.().raw;
  return raw && new X509Certificate(raw);
}

export const mTLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate: peerCertificate,
  // By the test authority, which is the listener's only one.
  certificateAuthorized: (ctx) => ctx.socket.authorized === true,
  certificateSubjectMatches: (ctx, property, expected) => (
    property === 'tls_client_auth_subject_dn' && subjectOf(peerCertificate(ctx)) === expected),
};
