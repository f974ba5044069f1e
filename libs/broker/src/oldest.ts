/** Offsets by partition. */
export type Offsets = ReadonlyMap<number, bigint>

/** The search stops at this age, in milliseconds. No log is kept longer. */
const AGE_MS_MAX = 400 * 86_400_000
const AGE_MS_MIN = 1_000
const GALLOP = 4
/** The result is too high by this factor at most. */
const PRECISION = 1.1

/**
 * The age of the oldest unread record of some partitions, in milliseconds, at least 1 s and accurate to about a tenth. Kafka does
 * not return a record's time without the record. It returns the first record since a time, so this searches for the time. A day
 * takes about ten requests, each for all partitions.
 *
 * @param unread the first unread offset of each partition that has one.
 * @param firstSince returns the first offset of each partition since a time, or the partition's end if there is none.
 */
export async function oldestAgeMs(
  unread: Offsets,
  firstSince: (timeMs: number) => Promise<Offsets>,
  nowMs: number,
): Promise<number> {
  /** Whether every unread record is younger than `ageMs`. */
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
