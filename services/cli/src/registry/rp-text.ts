import type { RelyingParty, RelyingPartyHealth } from '@curfew/contract'
import { lastErrorText } from '../deliveries/attempt-text.ts'
import { plain, table } from '../terminal/table.ts'

/** Relying parties as a table. */
export function partyTable(parties: readonly RelyingParty[]): string {
  const rows = parties.map(({ client_id, status }) => [
    client_id,
    status.client_name ?? '',
    status.enabled ? 'yes' : `no: ${status.disabled_reason ?? 'disabled'}`,
    channelsText(status.endpoints),
    status.endpoints.map(({ name, uri }) => (name === 'main' ? uri : `${name}=${uri}`)).join(' ') ||
      'none: it is not notified',
  ])
  return table([['CLIENT', 'NAME', 'ENABLED', 'CHANNELS', 'ENDPOINTS'], ...rows])
}

/** The channels of a relying party, with "(disabled)" after those that send nothing. */
function channelsText(endpoints: RelyingParty['status']['endpoints']): string {
  return [...Map.groupBy(endpoints, ({ channel }) => channel)]
    .map(([channel, its]) => (its.some(({ enabled }) => enabled) ? channel : `${channel} (disabled)`))
    .join(' ')
}

/** One relying party as text. */
export function partyText({ client_id, issuer, curfew, status }: RelyingParty): string {
  const { tls, endpoints: _, confirmation_secret: __, ...settings } = curfew
  const facts: readonly (readonly [string, string])[] = [
    ['relying party', `${status.client_name ?? client_id} (${issuer}/${client_id})`],
    ['read as', status.format],
    ...Object.entries(settings).map(([name, value]) => [name, JSON.stringify(value)] as const),
    // All endpoints of a channel have the same settings.
    ...new Map(
      status.endpoints.map(({ channel, settings }) => [channel, [channel, settingsText(settings)] as const]),
    ).values(),
    ...(tls === undefined ? [] : [['tls', Object.keys(tls).join(', ')] as const]),
    ...(status.waiting === undefined || status.waiting === 0
      ? []
      : [['waiting', `${status.waiting} ${status.waiting === 1 ? 'delivery' : 'deliveries'}`] as const]),
  ]
  const width = Math.max(18, ...facts.map(([name]) => name.length + 2))
  const several = new Set(status.endpoints.map(({ channel }) => channel)).size > 1
  const roleOf = (counts: string, fallback: string) => (several ? [counts, fallback] : [])
  const endpoints = status.endpoints.map((endpoint) => [
    endpoint.channel,
    endpoint.name,
    endpoint.names,
    ...roleOf(endpoint.counts, endpoint.fallback_for ?? ''),
    endpoint.enabled ? 'yes' : `no: ${endpoint.disabled_reason}`,
    endpoint.uri,
  ])
  const head = ['CHANNEL', 'ENDPOINT', 'NAMES', ...roleOf('COUNTS', 'FALLBACK FOR'), 'ENABLED', 'URI']
  return (
    facts.map(([name, value]) => `${name.padEnd(width)}${plain(value)}\n`).join('') +
    (endpoints.length === 0
      ? 'It has no endpoint, so it is not notified.\n'
      : `\n${table([head, ...endpoints])}`)
  )
}

/** The notices about a registration. The text of the relying party itself says if it has no endpoint. */
export function noticesText({ status: { notices = [] } }: RelyingParty): string {
  const others = notices.filter(({ code }) => code !== 'no_endpoint')
  return others.map(({ detail }) => `\n${plain(detail)}\n`).join('')
}

function settingsText(settings: Readonly<Record<string, unknown>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
}

/** The recent results of a relying party as a table. */
export function healthText({ issuer, client_id, client_name, endpoints }: RelyingPartyHealth): string {
  const hasError = endpoints.some(({ last_error }) => last_error !== null)
  const errorOf = (...cells: readonly string[]) => (hasError ? cells : [])
  const hasEnded = endpoints.some(({ share_already_ended }) => (share_already_ended ?? 0) > 0)
  const endedOf = (cell: string) => (hasEnded ? [cell] : [])
  const rows = endpoints.map((endpoint) => [
    endpoint.channel,
    endpoint.name,
    endpoint.enabled ? 'yes' : `no: ${endpoint.disabled_reason}`,
    endpoint.breaker.state,
    endpoint.waiting,
    shareText(endpoint.share_acknowledged),
    ...endedOf(shareText(endpoint.share_already_ended)),
    utcText(endpoint.last_acknowledged_at) ?? 'not recently',
    endpoint.elapsed_ms?.p50 ?? '',
    endpoint.elapsed_ms?.p95 ?? '',
    endpoint.elapsed_ms?.p99 ?? '',
    ...errorOf(utcText(endpoint.last_error?.at ?? null) ?? '', lastErrorText(endpoint.last_error)),
  ])
  const head = [
    'CHANNEL',
    'ENDPOINT',
    'ENABLED',
    'BREAKER',
    'WAITING',
    'ACKNOWLEDGED',
    ...endedOf('ALREADY ENDED'),
    'LAST (UTC)',
    'P50 MS',
    'P95 MS',
    'P99 MS',
    ...errorOf('ERROR AT (UTC)', 'LAST ERROR'),
  ]
  return `${plain(client_name ?? client_id)} (${plain(`${issuer}/${client_id}`)}), latest 1,000 deliveries to each endpoint:\n\n${
    rows.length === 0 ? 'It has no endpoint, so it is not notified.\n' : table([head, ...rows])
  }`
}

function shareText(share: number | null): string {
  return share === null ? '' : `${(share * 100).toFixed(1)} %`
}

/** A time to the second, without its zone. */
function utcText(time: string | null): string | undefined {
  return time?.slice(0, 19).replace('T', ' ')
}
