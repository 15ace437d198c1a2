// The certificates of the mTLS listener and of its clients, made by `openssl` at each start.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const CLIENT_USE = ['-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=clientAuth'];

// The subject that the client `tls-pki` is registered with, in the form of RFC 4514.
export const PKI_SUBJECT = 'CN=tls-pki,O=tokenflight tests';

// The subject of a peer's certificate in the same form. (Node has one part a line, in the opposite order.)
export const subjectOf = (certificate) => certificate.subject.split('\n').reverse().join(',');

export async function makeCertificates() {
  const folder = mkdtempSync(join(tmpdir(), 'tokenflight-oidc-'));
  try {
    return await makeIn(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function makeIn(folder) {
  const path = (name) => join(folder, name);
  // The system's own configuration would make an authority of every certificate.
  writeFileSync(path('empty.cnf'), '[req]\ndistinguished_name = dn\n[dn]\n');

  async function make(name, subject, extra) {
    await run('openssl', [
      'req', '-x509', '-config', path('empty.cnf'), '-days', '2', '-noenc', '-subj', subject,
      '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
      '-keyout', path(`${name}.key`), '-out', path(`${name}.pem`), ...extra,
    ]);
    return {
      cert_pem: readFileSync(path(`${name}.pem`), 'utf8'),
      key_pem: readFileSync(path(`${name}.key`), 'utf8'),
    };
  }

  const ca = await make('ca', '/O=tokenflight tests/CN=test authority', [
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign',
  ]);
  const byCa = ['-CA', path('ca.pem'), '-CAkey', path('ca.key')];
  const pkiSubject = '/O=tokenflight tests/CN=tls-pki';
  const ownSubject = '/O=tokenflight tests/CN=tls-self-signed';
  const [server, pki, pkiRotated, own, ownRotated] = await Promise.all([
    make('server', '/O=tokenflight tests/CN=localhost', [
      ...byCa, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
      '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth',
    ]),
    make('pki', pkiSubject, [...byCa, ...CLIENT_USE]),
    make('pki-rotated', pkiSubject, [...byCa, ...CLIENT_USE]),
    make('own', ownSubject, CLIENT_USE),
    make('own-rotated', ownSubject, CLIENT_USE),
  ]);
  return {
    ca_pem: ca.cert_pem,
    server,
    clients: {
      'tls-pki': { ...pki, rotated: pkiRotated },
      'tls-self-signed': { ...own, rotated: ownRotated },
    },
  };
}
