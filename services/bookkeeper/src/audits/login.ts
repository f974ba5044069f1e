import type { AuditSecrets, AuditSettings, HttpLogin, Issuer, OidcLogin, Sid, Subject } from '@curfew/domain'
import { type Field, type Form, formsOf, submissionOf } from './forms.ts'
import { NAVIGATION, type Unanswered, USER_AGENT, type Visited, type Visitor } from './visitor.ts'

/** A session of the test user. The visitor has its cookies. */
export interface TestSession {
  readonly sub: Subject | null
  readonly sid: Sid | null
  /** Headers that show the session to the relying party, besides the cookies. */
  readonly headers: Readonly<Record<string, string>>
}

/** Why no session could be made, in words without secrets: a sentence without its full stop. */
export interface LoginFailure {
  readonly failure: string
}

export interface LoginDeps {
  readonly visitor: Visitor
  readonly settings: Pick<AuditSettings, 'login' | 'check'>
  readonly secrets: AuditSecrets
  readonly iss: Issuer
  /** Whether to give up. */
  readonly stopped: () => boolean
}

const TIMEOUT_MS = 15_000
/** The most requests of a login: its redirects and its pages. */
const STEPS_MAX = 30

/** Makes a session of the test user. */
export async function logIn(deps: LoginDeps): Promise<TestSession | LoginFailure> {
  const { login } = deps.settings
  return login.kind === 'http' ? callHook(login, deps) : fillForms(login, deps)
}

async function callHook(
  { url, method }: HttpLogin,
  { visitor, secrets, settings }: LoginDeps,
): Promise<TestSession | LoginFailure> {
  const { headers = {}, body } = secrets
  const lower = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const),
  )
  const answer = await visitor.visit({
    ...{ url, method, timeoutMs: TIMEOUT_MS },
    ...(body !== undefined && { body }),
    headers: {
      accept: 'application/json',
      'user-agent': USER_AGENT,
      ...(method === 'POST' && { 'content-type': 'application/json' }),
      ...lower,
    },
    keeps: () => false,
  })
  if ('detail' in answer) return { failure: `The hook did not answer: ${answer.detail}` }
  if (answer.status !== 200) return { failure: `The hook answered ${answer.status}, not 200` }
  const session = readHook(answer.body)
  if ('failure' in session) return session
  for (const [index, cookie] of session.cookies.entries()) {
    if (!(await visitor.addCookie(cookie, settings.check.url)))
      return { failure: `The cookie ${index + 1} of the hook is not one for the URL of the check` }
  }
  return session
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]{0,4096}$/
const COOKIES_MAX = 50

/** Reads the answer of the hook. Its failures quote nothing of it. */
export function readHook(
  text: string,
): (TestSession & { readonly cookies: readonly string[] }) | LoginFailure {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The answer may have a secret, so the failure names only its form.
    return { failure: 'The hook answered something else than JSON' }
  }
  const { sub = null, sid = null, cookies = null, headers = null } = Object(parsed) as Record<string, unknown>
  if (sub === null && sid === null) return { failure: 'The answer of the hook has neither sub nor sid' }
  if (!isNullOr(sub, /^[^\p{Cc}\p{Cs}]{1,255}$/u))
    return { failure: 'The sub of the hook is not a text of 1 to 255 characters' }
  if (!isNullOr(sid, /^[\x20-\x7e]{1,255}$/))
    return { failure: 'The sid of the hook is not 1 to 255 ASCII characters' }
  const given = cookies ?? []
  if (
    !Array.isArray(given) ||
    given.length > COOKIES_MAX ||
    !given.every((each) => typeof each === 'string' && VALUE.test(each))
  )
    return { failure: `The cookies of the hook are not a list of at most ${COOKIES_MAX} texts` }
  const entries = Object.entries(Object(headers ?? {}) as Record<string, unknown>)
  if (
    entries.length > 20 ||
    !entries.every(([name, value]) => NAME.test(name) && typeof value === 'string' && VALUE.test(value))
  )
    return { failure: 'The headers of the hook are not an object of at most 20 texts' }
  return {
    sub: sub as Subject | null,
    sid: sid as Sid | null,
    cookies: given as readonly string[],
    headers: Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), value as string])),
  }
}

function isNullOr(value: unknown, pattern: RegExp): boolean {
  return value === null || (typeof value === 'string' && pattern.test(value))
}

/** The next request of a login. */
interface Step {
  readonly url: string
  readonly method: 'GET' | 'POST'
  readonly body?: string
  /** The origin of the page with the form. */
  readonly from?: string
  readonly hasPassword?: boolean
}

async function fillForms(login: OidcLogin, deps: LoginDeps): Promise<TestSession | LoginFailure> {
  const { visitor, iss, stopped } = deps
  const trusted = new Set([originOf(iss), ...(login.login_origins ?? []).map(originOf)])
  const filling = { login, trusted, password: deps.secrets.password ?? '' }
  const typed = { username: false, password: false }
  let step: Step | null = { url: login.start_url, method: 'GET' }
  for (let steps = 1; step !== null; steps++) {
    if (steps > STEPS_MAX) return { failure: `The login took more than ${STEPS_MAX} requests` }
    if (stopped()) return { failure: 'The login was cut off' }
    const answer = await visitor.visit({
      ...{ url: step.url, method: step.method, timeoutMs: TIMEOUT_MS },
      ...(step.body !== undefined && { body: step.body, headers: formHeaders(step.from) }),
    })
    const next = nextStep(answer, step, filling, typed)
    if (next !== null && 'failure' in next) return next
    step = next
  }
  return { sub: login.sub as Subject, sid: null, headers: {} }
}

/** The headers of a form that a browser submits. */
function formHeaders(from: string | undefined): Readonly<Record<string, string>> {
  return {
    ...NAVIGATION,
    'content-type': 'application/x-www-form-urlencoded',
    ...(from !== undefined && { origin: from }),
  }
}

interface Filling {
  readonly login: OidcLogin
  /** Origins whose forms get the password. */
  readonly trusted: ReadonlySet<string>
  readonly password: string
}

/** The step after an answer; null if the login is complete. @param typed what was typed so far; changed. */
function nextStep(
  answer: Visited | Unanswered,
  step: Step,
  filling: Filling,
  typed: { username: boolean; password: boolean },
): Step | LoginFailure | null {
  const place = originOf(step.url)
  if ('detail' in answer) return { failure: `${place} did not answer in the login: ${answer.detail}` }
  const { status, location } = answer
  if (status >= 300 && status < 400) {
    if (location === null)
      return { failure: `${place} answered ${status} without a usable target in the login` }
    if (!/^https?:/.test(location))
      return { failure: `${place} redirected the login to something else than a web page` }
    if (status !== 307 && status !== 308) return { url: location, method: 'GET' }
    // The method and the body stay, so a password must not leave its origin.
    if (step.hasPassword === true && !filling.trusted.has(originOf(location)))
      return { failure: `${place} redirected the password to ${originOf(location)}` }
    return { ...step, url: location }
  }
  const form = status < 500 ? formOf(answer, filling, typed) : null
  if (form !== null) return form
  if (status >= 400) return { failure: `${place} answered ${status} in the login` }
  if (place === originOf(filling.login.start_url)) return null
  return { failure: `${place} shows a page without a form in the login` }
}

/** Fills in and submits the form of a page; null if there is none to submit. */
function formOf(
  { url, body }: Visited,
  { login, trusted, password }: Filling,
  typed: { username: boolean; password: boolean },
): Step | LoginFailure | null {
  const { fields = {}, submit } = login
  const place = originOf(url)
  const forms = formsOf(body, url)
  const isPassword = ({ name, type }: Field) =>
    fields.password === undefined ? type === 'password' : name === fields.password
  const isUsername = (field: Field) => matchesUsername(field, fields.username)
  const isTrusted = ({ action }: Form) => trusted.has(place) && trusted.has(originOf(action))

  const secret = forms.find((form) => form.fields.some(isPassword))
  if (secret !== undefined) {
    if (!isTrusted(secret))
      return {
        failure: `A form of ${place} asks for the password and sends it to ${originOf(secret.action)}, and only the origin of the issuer and login_origins get it`,
      }
    if (typed.password)
      return { failure: `${place} asked for the password again: it refused the user or the password` }
    typed.password = true
    const name = usernameIn(secret, isUsername)
    return submitted(secret, place, submit, [
      ...(name === undefined ? [] : [[name, login.username] as const]),
      [secret.fields.find(isPassword)?.name ?? '', password],
    ])
  }
  const named = typed.username
    ? undefined
    : forms.find((form) => isTrusted(form) && form.fields.some(isUsername))
  if (named !== undefined) {
    typed.username = true
    return submitted(named, place, submit, [[usernameIn(named, isUsername) ?? '', login.username]])
  }
  // The relying party's own page may have forms too: the login is complete there.
  const own = originOf(login.start_url)
  if (place === own) return null
  // A consent, or a form that the script of the page would submit.
  const answer = forms.find(
    ({ action }) => trusted.has(place) || [own, ...trusted].includes(originOf(action)),
  )
  return answer === undefined ? null : submitted(answer, place, submit, [])
}

function submitted(
  form: Form,
  from: string,
  button: string | undefined,
  values: readonly (readonly [name: string, value: string])[],
): Step {
  const content = submissionOf(form, new Map(values), button).toString()
  const hasPassword = values.length > 0
  if (form.method === 'POST') return { url: form.action, method: 'POST', body: content, from, hasPassword }
  const url = new URL(form.action)
  url.search = content
  return { url: url.href, method: 'GET' }
}

/** Whether a field takes the user name. */
function matchesUsername({ name, type, autocomplete }: Field, given: string | undefined): boolean {
  if (given !== undefined) return name === given
  return (
    autocomplete.includes('username') ||
    type === 'email' ||
    (type === 'text' && /user|login|email|name/i.test(name))
  )
}

/** The name of the field that takes the user name: a marked one before one that only has a fitting type. */
function usernameIn({ fields }: Form, isUsername: (field: Field) => boolean): string | undefined {
  const marked = fields.find(
    ({ autocomplete, ...field }) =>
      autocomplete.includes('username') && isUsername({ ...field, autocomplete }),
  )
  return (marked ?? fields.find(isUsername) ?? fields.find(({ type }) => type === 'text'))?.name
}

function originOf(url: string): string {
  return URL.parse(url)?.origin ?? ''
}
