import {
  AddedKey,
  RetireInput,
  RotateInput,
  type Scope,
  SigningKey,
  SigningKeyInput,
  SigningKeys,
} from '@curfew/contract'
import {
  type IssuerName,
  KEY_LEAD_MS,
  keyAlgorithmOf,
  keyState,
  type NetworkAccess,
  nextKey,
  retirementFault,
  rotation,
  type SigningAlgorithm,
  signingKey,
} from '@curfew/domain'
import {
  changeSigningKeys,
  type Database,
  findKeyRotation,
  findSigningKeys,
  type NewSigningKey,
  type SigningKeyChanges,
  type SigningKeyRecord,
} from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import { callerOf, createTurns, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { KeyMaker } from '@curfew/tokens'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import { givenKey, isGenerated } from './given.ts'
import { fetchKeySets } from './key-sets.ts'
import { keyView, ofAlgorithm } from './view.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'keys:write', access: 'path' } satisfies RouteAccess<Scope>
/** The generation of an RSA key takes about a second of processor time. */
const MAKE = { ...WRITE, cost: 50 } satisfies RouteAccess<Scope>
/** One key is generated at a time. More would use the processors that logouts of other issuers need. */
const GENERATING = { perCaller: 1, waitingPerCaller: 2, atOnce: 1, waiting: 100, waitMs: 10_000 }
const PATH = '/v1/issuers/:issuer/keys'
const KeyParams = Type.Object({
  ...IssuerParams.properties,
  kid: Type.String({ minLength: 1, maxLength: 255 }),
})

export interface KeysDeps {
  readonly db: Database
  readonly keyMaker: KeyMaker
  /** Fetches the key set of an IdP, to find the kid under which it publishes an imported key. */
  readonly client: Pick<GuardedClient, 'get'>
  /** The fault of a signer's URL, in words; null if there is none. */
  targetFault(uri: string, access: NetworkAccess): string | null
  now(): Date
}

/** `/v1/issuers/{issuer}/keys`: the keys that sign the logout tokens of the issuer. */
export function registerKeys(server: HttpServer, deps: KeysDeps): void {
  const { db, keyMaker, now } = deps
  const generating = createTurns({ ...GENERATING, refusal: tooManyKeys })

  async function view(name: IssuerName): Promise<SigningKeys> {
    const [keys, every_days] = [await findSigningKeys(db, name), await findKeyRotation(db, name)]
    const items = await Promise.all(keys.map((key) => keyView(key, keys, now())))
    return { items, next_cursor: null, every_days }
  }

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'listSigningKeys',
        tags: ['Signing keys'],
        summary: 'List the signing keys of an issuer, including retired keys.',
        params: IssuerParams,
        response: { 200: SigningKeys },
      },
    },
    async (request) => view((await issuerOr404(db, request.params.issuer)).name),
  )

  server.post(
    PATH,
    {
      config: MAKE,
      schema: {
        operationId: 'createSigningKey',
        tags: ['Signing keys'],
        summary:
          'Generate a key, import a key, or add a remote key. It becomes the successor of the current key of its algorithm.',
        params: IssuerParams,
        body: SigningKeyInput,
        response: { 201: AddedKey },
      },
    },
    async (request, reply) => {
      const issuer = await issuerOr404(db, request.params.issuer)
      const { name } = issuer
      const leadMs = request.body.sign_from === 'now' ? 0 : leadOf(request.body)
      const add = async () => {
        const { key, kidReason } = await givenKey(request.body, {
          ...{ issuer, keyMaker, targetFault: deps.targetFault },
          keySets: () => fetchKeySets(deps.client, issuer),
        })
        await changeSigningKeys(db, name, async (changes) => {
          refuseUnderWay(changes.keys, key.algorithm, now())
          const signsFrom = await insertAs(changes, key, { leadMs, now: now() })
          await changes.audit({
            credential: callerOf(request).name,
            action: key.source === 'generated' ? 'key.generated' : 'key.imported',
            object: pathOf(name, key.kid),
            detail: { alg: key.algorithm, source: key.source, signs_from: signsFrom.toISOString() },
          })
        })
        return { kid: key.kid, kidReason }
      }
      const alg = request.body.alg === undefined ? undefined : keyAlgorithmOf(request.body.alg)
      const generate = async () => {
        // Checked before a key is generated, because the generation is expensive.
        if (alg !== undefined) refuseUnderWay(await findSigningKeys(db, name), alg, now())
        return add()
      }
      const { kid, kidReason } = isGenerated(request.body)
        ? await generating.run(name, generate)
        : await add()
      return reply.code(201).send({ ...(await storedView(name, kid)), kid_reason: kidReason })
    },
  )

  server.post(
    `${PATH}/rotate`,
    {
      config: MAKE,
      schema: {
        operationId: 'rotateSigningKeys',
        tags: ['Signing keys'],
        summary: 'Rotate the generated keys, or set the schedule of their rotation.',
        params: IssuerParams,
        body: RotateInput,
        response: { 200: SigningKeys },
      },
    },
    async (request) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const { immediately = false, every_days } = request.body
      const alg = request.body.alg === undefined ? undefined : keyAlgorithmOf(request.body.alg)
      const credential = callerOf(request).name
      if (every_days !== undefined) {
        if (alg !== undefined || immediately || request.body.lead_s !== undefined)
          throw refusal(
            400,
            'Invalid body',
            'every_days must be the only member: it sets the schedule and rotates nothing. Omit the other members.',
          )
        await changeSigningKeys(db, name, async (changes) => {
          await changes.schedule(every_days)
          const detail = { every_days }
          await changes.audit({ credential, action: 'key.rotation-scheduled', object: pathOf(name), detail })
        })
        return view(name)
      }
      if (immediately && request.body.lead_s !== undefined)
        throw refusal(400, 'Invalid body', 'immediately and lead_s contradict each other. Omit one of them.')
      const leadMs = immediately ? 0 : leadOf(request.body)
      await generating.run(name, async () => {
        const keys = await findSigningKeys(db, name)
        const rotated = rotatable(keys, alg, now())
        const missing = rotated.filter((algorithm) => {
          const decided = rotation(ofAlgorithm(keys, algorithm), { now: now(), leadMs })
          if (decided.kind === 'under_way') throw underWay(decided)
          return decided.kind === 'new'
        })
        const made = new Map<SigningAlgorithm, NewSigningKey>()
        // Keys are generated before the rows are locked, because an RSA key takes about a second.
        for (const algorithm of missing) made.set(algorithm, await keyMaker.generate(name, algorithm))
        await changeSigningKeys(db, name, async (changes) => {
          for (const algorithm of rotated) {
            const key = made.get(algorithm) ?? null
            const kid = await rotateTo(changes, { algorithm, key }, { leadMs, now: now() })
            await changes.audit({
              credential,
              action: 'key.rotated',
              object: pathOf(name, kid),
              detail: { alg: algorithm, immediately, lead_ms: leadMs },
            })
          }
        })
      })
      return view(name)
    },
  )

  server.post(
    `${PATH}/:kid/retire`,
    {
      config: WRITE,
      schema: {
        operationId: 'retireSigningKey',
        tags: ['Signing keys'],
        summary:
          'Retire the next key before it signs. With compromised, a previous key can be retired too, and leaves the key set at once.',
        params: KeyParams,
        body: RetireInput,
        response: { 200: SigningKey },
      },
    },
    async (request) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const { kid } = request.params
      const { compromised = false } = request.body
      await changeSigningKeys(db, name, async ({ keys, retire, withdraw, audit }) => {
        const key = keys.find((candidate) => candidate.kid === kid)
        if (key === undefined) throw refusal(404, 'No such key', `${name} has no signing key ${kid}.`)
        const related = ofAlgorithm(keys, key.algorithm)
        const fault = retirementFault(key, related, { now: now(), compromised })
        if (fault !== null) throw refusal(409, 'Key cannot be retired', RETIREMENT[fault])
        if (keyState(key, related, now()) === 'next') await retire(kid, now())
        if (compromised) await withdraw(kid, now())
        const detail = { alg: key.algorithm, compromised }
        await audit({
          credential: callerOf(request).name,
          action: 'key.retired',
          object: pathOf(name, kid),
          detail,
        })
      })
      return storedView(name, kid)
    },
  )

  async function storedView(name: IssuerName, kid: string): Promise<SigningKey> {
    const keys = await findSigningKeys(db, name)
    const key = keys.find((candidate) => candidate.kid === kid)
    if (key === undefined) throw refusal(404, 'No such key', `${name} has no signing key ${kid}.`)
    return keyView(key, keys, now())
  }
}

const RETIREMENT = {
  current:
    'This key signs. First rotate to another key (keys/rotate, with immediately if it is urgent), then retire this one.',
  previous:
    'This key does not sign any more, and leaves the key set when all its tokens have expired. With compromised it leaves at once.',
  retired: 'This key has left the key set already.',
} as const

function leadOf({ lead_s }: { readonly lead_s?: number | undefined }): number {
  return lead_s === undefined ? KEY_LEAD_MS : lead_s * 1_000
}

/** The algorithms whose keys a rotation replaces. @throws a 409 problem if no generated key signs. */
function rotatable(
  keys: readonly SigningKeyRecord[],
  alg: SigningAlgorithm | undefined,
  now: Date,
): readonly SigningAlgorithm[] {
  const algorithms = [...new Set(keys.map(({ algorithm }) => algorithm))]
  const generated = algorithms.filter(
    (algorithm) => signingKey(ofAlgorithm(keys, algorithm), now)?.source === 'generated',
  )
  const wanted = alg === undefined ? generated : generated.filter((algorithm) => algorithm === alg)
  if (wanted.length > 0) return wanted
  const detail =
    alg === undefined || algorithms.includes(alg)
      ? 'No generated key signs. To replace an imported or remote key, post the next one to …/keys.'
      : `No ${alg} key signs yet. Curfew generates the first one when a relying party needs it, or on a post to …/keys.`
  throw refusal(409, 'Nothing to rotate', detail)
}

/** Makes a rotation of one algorithm. @returns the kid of the key that signs next. */
async function rotateTo(
  changes: SigningKeyChanges,
  { algorithm, key }: { readonly algorithm: SigningAlgorithm; readonly key: NewSigningKey | null },
  { leadMs, now }: { leadMs: number; now: Date },
): Promise<string> {
  const decided = rotation(ofAlgorithm(changes.keys, algorithm), { now, leadMs })
  if (decided.kind === 'under_way') throw underWay(decided)
  if (decided.kind === 'forward') {
    await changes.bringForward(decided.kid, decided.signsFrom)
    return decided.kid
  }
  // Another request retired the next key after this rotation had found it.
  if (key === null)
    throw refusal(
      409,
      'Keys changed meanwhile',
      'Another request changed the keys. Nothing was changed by this one. Send the request again.',
    )
  await changes.insert(key, decided)
  return key.kid
}

/** Inserts a new key. @returns when it signs. @throws a 409 problem if the issuer has, or had, a key with this kid. */
async function insertAs(
  changes: SigningKeyChanges,
  key: NewSigningKey,
  when: { leadMs: number; now: Date },
): Promise<Date> {
  const decided = rotation(ofAlgorithm(changes.keys, key.algorithm), when)
  if (decided.kind !== 'new') throw underWay(decided)
  if (await changes.insert(key, decided)) return decided.signsFrom
  throw new ProblemError({
    status: 409,
    title: 'Key conflict',
    detail:
      'This issuer has, or had, a key with the same kid, by which relying parties distinguish keys. Nothing was changed. Give the key another kid.',
    errors: [
      {
        pointer: key.source === 'remote' ? '/public_jwk/kid' : '/jwk/kid',
        detail:
          'is taken: this issuer has, or had, a key with it, which `curfew keys list --all` shows. Give another key another kid',
      },
    ],
  })
}

/** @throws a 409 problem if the next key of the algorithm is published already. */
function refuseUnderWay(keys: readonly SigningKeyRecord[], algorithm: SigningAlgorithm, now: Date): void {
  const next = nextKey(ofAlgorithm(keys, algorithm), now)
  if (next !== null) throw underWay(next)
}

function underWay({ kid, signsFrom }: { readonly kid: string; readonly signsFrom: Date }): ProblemError {
  return refusal(
    409,
    'Rotation under way',
    `The next key ${kid} is published and signs from ${signsFrom.toISOString()}. Wait until then, let it sign at once (rotate with immediately), or retire it.`,
  )
}

function tooManyKeys(why: 'caller' | 'all'): ProblemError {
  const others = why === 'caller' ? 'Other keys of this issuer' : 'Keys of other issuers'
  return new ProblemError({
    status: 429,
    title: 'Too many keys at once',
    detail: `${others} are being generated, and only one key is generated at a time. Nothing was changed. Send the request again in a moment.`,
    headers: { 'retry-after': '5' },
  })
}

/** The API path of a key, or of all keys of an issuer. */
function pathOf(issuer: IssuerName, kid?: string): string {
  return `/v1/issuers/${issuer}/keys${kid === undefined ? '' : `/${encodeURIComponent(kid)}`}`
}

function refusal(status: number, title: string, detail: string): ProblemError {
  return new ProblemError({ status, title, detail })
}
