/** First offsets by partition. */
export type Offsets = ReadonlyMap<number, bigint>

/** What is believed to have waited so long waits longer than any log is kept, in milliseconds. */
const AGE_MS_MAX = 400 * 86_400_000
const AGE_MS_MIN = 1_000
const GALLOP = 4
/** The answer is at most so much too high. */
const PRECISION = 1.1

/**
 * How long the oldest unread record of some partitions has waited, in milliseconds, to about a tenth; 1 s at least. Kafka does not tell
 * a record's time without the record. It tells which record is the first since a time, so the time is searched for: about ten
 * questions for a day, each about all partitions together.
 *
 * @param unread the first unread offset of each partition that has one.
 * @param firstSince the first record of each partition since a time; the end of the partition where there is none.
 */
export async function oldestAgeMs(
  unread: Offsets,
  firstSince: (timeMs: number) => Promise<Offsets>,
  nowMs: number,
): Promise<number> {
  /** Whether no unread record is older. */
  const covers = async (ageMs: number) => {
    const first = await firstSince(nowMs - ageMs)
    return [...unread].every(([partition, offset]) => (first.get(partition) ?? offset) <= offset)
  }
  let [tooLow, ageMs] = [0, AGE_MS_MIN]
  while (!(await covers(ageMs))) {
    if (ageMs >= AGE_MS_MAX) return ageMs
    tooLow = ageMs
    ageMs *= GALLOP
  }
  while (tooLow > 0 && ageMs > tooLow * PRECISION) {
    const middle = Math.sqrt(tooLow * ageMs)
    if (await covers(middle)) ageMs = middle
    else tooLow = middle
  }
  return ageMs
}
