import { expect, test } from 'vitest'
import { openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openWebhookReceiver, signers } from '../support/webhook-receiver.ts'

// Goal: an SRE at a terminal, or a script, registers a webhook, tests it and deletes it.
// Method: the real command against all services, with a real receiver.

const processes = useProcesses()

test('a webhook is registered, tested, changed and deleted', async () => {
  await using curfew = await openCurfew({ workers: 0, bookkeepers: 1 })
  await using hook = await openWebhookReceiver()
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['webhooks', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

  expect(await run('list')).toEqual({ code: 0, stdout: 'No webhooks.\n', stderr: '' })
  const made = await run('put', 'on-call', '--to', hook.url, '--type', 'delivery.dead_lettered')
  expect(made).toMatchObject({ code: 0, stderr: '' })
  const [, secret = ''] = /^(whsec_\S+)$/m.exec(made.stdout) ?? []
  const listed = await run('list')
  expect(listed.stdout.split('\n')).toEqual([
    expect.stringMatching(/^NAME +URL +TYPES +ISSUER +STATE$/),
    expect.stringMatching(/^on-call +http\S+\/hook +delivery\.dead_lettered +all +enabled$/),
    '',
  ])
  expect(listed.stdout).not.toContain('whsec_')

  expect(await run('test', 'on-call')).toEqual({ code: 0, stdout: 'on-call answered 204.\n', stderr: '' })
  const [first] = hook.received
  expect(first === undefined ? [] : signers(first, [secret])).toEqual([0])
  hook.behave(500)
  const failed = await run('test', 'on-call')
  expect(failed.code).toBe(1)
  expect(failed.stdout).toMatch(/^on-call: answered 500\. It is sent again at \S+Z\.\n$/)

  const wrong = await run('put', 'on-call', '--to', hook.url, '--type', 'no.such_type')
  expect(wrong.code).toBe(2)
  expect(wrong.stderr).toContain('Curfew answered 400: /types/0')
  expect((await run('put', 'on-call')).code).toBe(2)
  expect((await run('put', 'on-call', '--to', hook.url, '--disabled')).stdout).toBe('Changed on-call.\n')
  expect(await run('test', 'on-call')).toMatchObject({ code: 1, stdout: '' })
  expect(await run('delete', 'on-call', '--json')).toEqual({
    code: 0,
    stdout: '{"deleted":"on-call"}\n',
    stderr: '',
  })
  expect((await run('delete', 'on-call')).stderr).toContain('Curfew answered 404')
})
