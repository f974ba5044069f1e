import {
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
import { callerOf, createTurns, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { KeyMaker } from '@curfew/tokens'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import { givenKey, isGenerated } from './given.ts'
import { keyView, ofAlgorithm } from './view.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'keys:write', access: 'path' } satisfies RouteAccess<Scope>
/** An RSA key takes a second of a processor. */
const MAKE = { ...WRITE, cost: 50 } satisfies RouteAccess<Scope>
/** One key is generated at a time: the others would take the processors that logouts of other issuers need. */
const GENERATING = { ofCaller: 1, waitingOfCaller: 2, atOnce: 1, waiting: 100, waitMs: 10_000 }
const PATH = '/v1/issuers/:issuer/keys'
const KeyParams = Type.Object({
  ...IssuerParams.properties,
  kid: Type.String({ minLength: 1, maxLength: 255 }),
})

export interface KeysDeps {
  readonly db: Database
  readonly keyMaker: KeyMaker
  /** What is wrong with a signer's URL, in words, or null. */
  targetFault(uri: string, access: NetworkAccess): string | null
  now(): Date
}

/** `/v1/issuers/{issuer}/keys`: the keys that sign its logout tokens. */
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
        summary: 'The signing keys of an issuer, those that are retired too.',
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
        summary:
          'Generate a key, import one, or take one that signs elsewhere. It follows the one that signs now.',
        params: IssuerParams,
        body: SigningKeyInput,
        response: { 201: SigningKey },
      },
    },
    async (request, reply) => {
      const issuer = await issuerOr404(db, request.params.issuer)
      const { name } = issuer
      const leadMs = request.body.sign_from === 'now' ? 0 : leadOf(request.body)
      const add = async () => {
        const key = await givenKey(request.body, { issuer, keyMaker, targetFault: deps.targetFault })
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
        return key.kid
      }
      const { alg } = request.body
      const generate = async () => {
        // A refusal must not cost a key.
        if (alg !== undefined) refuseUnderWay(await findSigningKeys(db, name), alg, now())
        return add()
      }
      const kid = isGenerated(request.body) ? await generating.run(name, generate) : await add()
      return reply.code(201).send(await storedView(name, kid))
    },
  )

  server.post(
    `${PATH}/rotate`,
    {
      config: MAKE,
      schema: {
        summary:
          'Let new keys take over from those that were generated here; or say how often that shall be by itself.',
        params: IssuerParams,
        body: RotateInput,
        response: { 200: SigningKeys },
      },
    },
    async (request) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const { alg, immediately = false, every_days } = request.body
      const credential = callerOf(request).name
      if (every_days !== undefined) {
        if (alg !== undefined || immediately || request.body.lead_s !== undefined)
          throw refusal(400, 'Invalid body', 'every_days goes alone: it rotates nothing now.')
        await changeSigningKeys(db, name, async (changes) => {
          await changes.schedule(every_days)
          const detail = { every_days }
          await changes.audit({ credential, action: 'key.rotation-scheduled', object: pathOf(name), detail })
        })
        return view(name)
      }
      if (immediately && request.body.lead_s !== undefined)
        throw refusal(400, 'Invalid body', 'immediately and lead_s contradict each other.')
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
        // Made before anything is locked: an RSA key takes a while.
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
        summary:
          'Take a key out of service: the next before its turn, or one that signs no more from the key set at once.',
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
        const key = keys.find((each) => each.kid === kid)
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
    const key = keys.find((each) => each.kid === kid)
    if (key === undefined) throw refusal(404, 'No such key', `${name} has no signing key ${kid}.`)
    return keyView(key, keys, now())
  }
}

const RETIREMENT = {
  current:
    'This key signs. Let another take over first (keys/rotate, with immediately if it must be now), then retire it.',
  previous:
    'This key signs no more, and leaves the key set by itself when nobody can have use for it. With compromised it leaves at once.',
  retired: 'This key is out of the key set already.',
} as const

function leadOf({ lead_s }: { readonly lead_s?: number | undefined }): number {
  return lead_s === undefined ? KEY_LEAD_MS : lead_s * 1_000
}

/** The algorithms whose keys a rotation replaces. @throws where there is none, or its key is not ours to make. */
function rotatable(
  keys: readonly SigningKeyRecord[],
  alg: SigningAlgorithm | undefined,
  now: Date,
): readonly SigningAlgorithm[] {
  const algorithms = [...new Set(keys.map(({ algorithm }) => algorithm))]
  const generated = algorithms.filter(
    (algorithm) => signingKey(ofAlgorithm(keys, algorithm), now)?.source === 'generated',
  )
  const wanted = alg === undefined ? generated : generated.filter((each) => each === alg)
  if (wanted.length > 0) return wanted
  const detail =
    alg === undefined || algorithms.includes(alg)
      ? 'No key that was generated here signs. A key from elsewhere is followed by the next from there: post it to …/keys.'
      : `No ${alg} key signs yet. The first is made when a relying party needs it, or by a post to …/keys.`
  throw refusal(409, 'Nothing to rotate', detail)
}

/** @returns the kid of the key that takes over. */
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
  // The next key was retired after the rotation had found it.
  if (key === null)
    throw refusal(409, 'Keys changed meanwhile', 'Nothing was changed. Ask for the rotation again.')
  await changes.insert(key, decided)
  return key.kid
}

/** @returns when it signs. @throws a 409 problem where the issuer has, or had, a key of this kid. */
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
      'This issuer has, or had, a key of the same kid: relying parties tell keys apart by it. Nothing was changed.',
    errors: [{ pointer: key.source === 'remote' ? '/public_jwk/kid' : '/jwk/kid', detail: 'is taken' }],
  })
}

/** @throws a 409 problem where the next key of the algorithm is published already. */
function refuseUnderWay(keys: readonly SigningKeyRecord[], algorithm: SigningAlgorithm, now: Date): void {
  const next = nextKey(ofAlgorithm(keys, algorithm), now)
  if (next !== null) throw underWay(next)
}

function underWay({ kid, signsFrom }: { readonly kid: string; readonly signsFrom: Date }): ProblemError {
  return refusal(
    409,
    'Rotation under way',
    `${kid} is published and takes over at ${signsFrom.toISOString()}. Wait for that, let it sign at once (rotate with immediately), or retire it.`,
  )
}

function tooManyKeys(why: 'caller' | 'all'): ProblemError {
  const others = why === 'caller' ? 'Other keys of this issuer are' : 'Keys of other issuers are'
  return new ProblemError({
    status: 429,
    title: 'Too many keys at once',
    detail: `${others} being generated, one at a time. Nothing was changed. Ask again in a moment.`,
    headers: { 'retry-after': '5' },
  })
}

/** As the API names a key, or all of an issuer's. */
function pathOf(issuer: IssuerName, kid?: string): string {
  return `/v1/issuers/${issuer}/keys${kid === undefined ? '' : `/${encodeURIComponent(kid)}`}`
}

function refusal(status: number, title: string, detail: string): ProblemError {
  return new ProblemError({ status, title, detail })
}
