import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

// Certificates made by openssl for one run: node:crypto creates keys and reads certificates, but does not create certificates.

/** A private key and a certificate in PEM. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** The beginning and the end of a certificate's validity, as `YYYYMMDDHHMMSSZ`. */
export type Validity = readonly [from: string, to: string]
export const IN_2020: Validity = ['20200101000000Z', '20200102000000Z']
export const IN_2090: Validity = ['20900101000000Z', '20900102000000Z']

export interface CertificateMaker extends AsyncDisposable {
  /** A self-signed certificate, valid for `days`, two by default. @param subjectAltName such as `IP:127.0.0.1`. */
  selfSigned(subjectAltName: string, days?: number): Promise<Certificate>
  /** As `selfSigned`, but valid for one day in the past, or at another time. */
  expired(subjectAltName: string, validity?: Validity): Promise<Certificate>
  /** A certificate signed by `issuer`. */
  signedBy(issuer: Certificate, subjectAltName: string): Promise<Certificate>
  /** An issuing CA signed by `issuer`, such as the intermediate CA between a root and a server. */
  authority(issuer: Certificate, validity?: Validity): Promise<Certificate>
}

const openssl = promisify(execFile)
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export async function openCertificateMaker(): Promise<CertificateMaker> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-tls-'))
  let made = 0

  /** Runs openssl with separate files, and reads the key and the certificate. */
  async function make(run: (at: (name: string) => string) => Promise<unknown>): Promise<Certificate> {
    made += 1
    const prefix = `${made}-`
    const at = (name: string) => join(folder, prefix + name)
    await run(at)
    return { key: await readFile(at('key'), 'utf8'), cert: await readFile(at('cert'), 'utf8') }
  }

  /** A certificate with any validity. Only `openssl ca` accepts validity in the past in every version in use. */
  async function dated(
    at: (name: string) => string,
    given: { issuer: Certificate | null; extension: string; validity: Validity },
  ): Promise<void> {
    const { issuer, extension } = given
    const [from, to] = given.validity
    await writeFile(at('index'), '')
    await writeFile(
      at('config'),
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${at('index')}\nnew_certs_dir=${folder}\nrand_serial=yes\n` +
        `default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\n${extension}\n`,
    )
    if (issuer !== null) {
      await writeFile(at('ca'), issuer.cert)
      await writeFile(at('ca-key'), issuer.key, { mode: 0o600 })
    }
    const subject = issuer === null ? '/CN=rp' : `/CN=issuing CA ${made}`
    await openssl('openssl', [
      ...['req', ...NEW_KEY, '-keyout', at('key'), '-out', at('csr'), '-subj', subject],
    ])
    await openssl('openssl', [
      ...['ca', '-batch', '-config', at('config'), '-in', at('csr'), '-out', at('cert'), '-notext'],
      ...(issuer === null
        ? ['-selfsign', '-keyfile', at('key')]
        : ['-cert', at('ca'), '-keyfile', at('ca-key')]),
      ...['-startdate', from, '-enddate', to],
    ])
  }

  return {
    selfSigned: (subjectAltName, days = 2) =>
      make((at) =>
        openssl('openssl', [
          ...['req', '-x509', ...NEW_KEY, '-keyout', at('key'), '-out', at('cert'), '-days', String(days)],
          ...['-subj', '/CN=rp', '-addext', `subjectAltName=${subjectAltName}`],
        ]),
      ),
    expired: (subjectAltName, validity = IN_2020) =>
      make((at) => dated(at, { issuer: null, extension: `subjectAltName=${subjectAltName}`, validity })),
    authority: (issuer, validity = ['20250101000000Z', '20900101000000Z']) =>
      make((at) =>
        dated(at, { issuer, extension: 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign', validity }),
      ),
    signedBy: (issuer, subjectAltName) =>
      make(async (at) => {
        await writeFile(at('ca'), issuer.cert)
        await writeFile(at('ca-key'), issuer.key, { mode: 0o600 })
        await writeFile(at('extensions'), `subjectAltName=${subjectAltName}\n`)
        await openssl('openssl', [
          ...['req', ...NEW_KEY, '-keyout', at('key'), '-out', at('csr'), '-subj', '/CN=signed'],
        ])
        await openssl('openssl', [
          ...['x509', '-req', '-in', at('csr'), '-CA', at('ca'), '-CAkey', at('ca-key'), '-out', at('cert')],
          ...['-set_serial', String(made), '-days', '2', '-extfile', at('extensions')],
        ])
      }),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  }
}
