import { createRequire } from 'node:module'
import kafkajs from 'kafkajs'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { settleJoins } from './joins.ts'

// Goal: a join of kafkajs succeeds or ends its consumer. Method: kafkajs's consumer group with scripted joins.

interface Group {
  joinAndSync(): Promise<void>
}

const { prototype } = createRequire(import.meta.url)('kafkajs/src/consumer/consumerGroup.js') as {
  readonly prototype: Group
}
const join = vi.fn<() => Promise<void>>()
prototype.joinAndSync = join
settleJoins()

const LOADING = new kafkajs.KafkaJSError('The coordinator is loading')
const newGroup = () => Object.create(prototype) as Group

beforeEach(() => {
  join.mockReset()
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

it('concurrent joins of one consumer are merged', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  join.mockReturnValue(promise)
  const group = newGroup()
  const both = [group.joinAndSync(), group.joinAndSync()]
  expect(join).toHaveBeenCalledTimes(1)
  void newGroup().joinAndSync()
  expect(join).toHaveBeenCalledTimes(2)
  resolve()
  await Promise.all(both)
  await group.joinAndSync()
  expect(join).toHaveBeenCalledTimes(3)
})

it('a join that fails briefly is retried', async () => {
  join.mockRejectedValueOnce(LOADING).mockRejectedValueOnce(LOADING).mockResolvedValue()
  const joined = newGroup().joinAndSync()
  await vi.advanceTimersByTimeAsync(1_000)
  await joined
  expect(join).toHaveBeenCalledTimes(3)
})

it('a join that keeps failing ends the consumer, with the reason as its cause', async () => {
  join.mockRejectedValue(LOADING)
  const failed = newGroup()
    .joinAndSync()
    .catch((error: unknown) => error)
  await vi.advanceTimersByTimeAsync(11_000)
  expect(await failed).toMatchObject({ retriable: false, message: LOADING.message, cause: LOADING })
})

it('a join with a permanent error ends the consumer at once', async () => {
  const refused = new kafkajs.KafkaJSNonRetriableError('not authorized')
  join.mockRejectedValue(refused)
  await expect(newGroup().joinAndSync()).rejects.toMatchObject({ retriable: false, cause: refused })
  expect(join).toHaveBeenCalledTimes(1)
})
