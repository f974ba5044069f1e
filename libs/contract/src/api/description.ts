// The description of the API beside its routes. Every tag of a route is in this list.

export const API_DESCRIPTION = `Curfew delivers the logouts of an identity provider (IdP) to its relying parties (RPs), and proves it.

An IdP posts logout events and sessions. RP owners register endpoints. Operators watch deliveries, replay dead letters and read the SLA.

- Names are in snake_case. Times are RFC 3339, and UTC in answers. Ids are UUIDs.
- An error is a problem (RFC 9457). \`errors\` names the faults of a body by JSON pointers.
- A list has \`items\` and \`next_cursor\`. Send the cursor as \`cursor\` for the next page.
- A request over its limits gets a 429 with \`Retry-After\`.`

export const API_TAGS = [
  { name: 'Logout events', description: 'An IdP posts a logout, and asks for its outcome.' },
  { name: 'Sessions', description: 'An IdP posts its sessions. Support staff find them.' },
  { name: 'Relay', description: 'An IdP posts the logout tokens of its clients.' },
  { name: 'Issuers', description: 'The IdPs, by short names, with their settings.' },
  { name: 'Relying parties', description: 'Registration, probe and health of relying parties.' },
  {
    name: 'Resource servers',
    description: 'The cutoff feed, and the APIs that read it to refuse access tokens after a logout.',
  },
  { name: 'Signing keys', description: 'The keys of logout tokens.' },
  { name: 'Deliveries', description: 'One delivery for each endpoint that a logout is owed to.' },
  { name: 'Dead letters', description: 'Failed deliveries, with the way to correct them, and replays.' },
  { name: 'Issuer logouts', description: 'The progress of logouts of all sessions of an issuer.' },
  { name: 'Audits', description: 'Synthetic logouts, which show whether a relying party ends its sessions.' },
  { name: 'Receipts', description: 'Signed receipts, and the log that they are in.' },
  { name: 'SLA', description: 'The share of deliveries within the promised time.' },
  {
    name: 'Event log',
    description: 'The state of the event log, and the records that could not be planned.',
  },
  { name: 'Webhooks', description: 'Notifications for operators.' },
  { name: 'Access', description: 'API keys, and the audit log.' },
  { name: 'Privacy', description: 'Erasure of a subject.' },
] as const
