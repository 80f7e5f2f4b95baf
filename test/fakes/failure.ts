import { EmbedError } from '../../src/errors.ts'

/** The EmbedError that a promise ends with; anything else fails the test. */
export async function failureOf(promise: Promise<unknown>): Promise<EmbedError> {
  const error = await promise.then(
    () => 'nothing was thrown',
    (thrown: unknown) => thrown,
  )
  if (error instanceof EmbedError) return error
  throw new Error(`expected an EmbedError, got: ${String(error)}`)
}

/** The EmbedError that a call throws; anything else fails the test. */
export function thrownBy(run: () => unknown): EmbedError {
  try {
    run()
  } catch (error) {
    if (error instanceof EmbedError) return error
    throw new Error(`expected an EmbedError, got: ${String(error)}`, { cause: error })
  }
  throw new Error('nothing was thrown')
}
