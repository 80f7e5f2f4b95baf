import fastifyCors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'

/** Lets pages of these origins call the server from a browser. Keys travel in a header, never in cookies.
 * @param origins comma-separated, or '*'; undefined lets none */
export async function registerCors(app: FastifyInstance, origins: string | undefined): Promise<void> {
  if (origins === undefined) return
  const list = origins
    .split(',')
    .map((origin) => origin.trim())
    .filter((origin) => origin !== '')
  await app.register(fastifyCors, {
    origin: list.includes('*') ? '*' : list,
    methods: ['GET', 'HEAD', 'POST'],
    exposedHeaders: '*',
    maxAge: 600,
  })
}
