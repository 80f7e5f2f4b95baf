import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type TestServer, createTestServer, sendFile } from './http-server.ts'

export interface FakeHubOptions {
  /** Commit that every revision in `revisions` stands for. */
  readonly commit?: string
  readonly revisions?: readonly string[]
  readonly token?: string
  /** Leave out sizes and checksums, as a simple mirror does. */
  readonly isBare?: boolean
  /** Answers a file request itself by returning true; `count` as for a Handler. */
  readonly onFile?: (
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    count: number,
  ) => boolean
}

export const fakeCommit = 'c'.repeat(40)

/** A hub with one model, org/name: the listing route and the file route of the Hugging Face hub. */
export function createFakeHub(
  files: Readonly<Record<string, Buffer | string>>,
  options: FakeHubOptions = {},
): Promise<TestServer> {
  const { commit = fakeCommit, revisions = ['main'], token, isBare = false, onFile } = options
  const siblings = Object.entries(files).map(([rfilename, content]) =>
    isBare ? { rfilename } : toSibling(rfilename, Buffer.from(content)),
  )
  return createTestServer((request, response, count) => {
    const url = new URL(request.url ?? '', 'http://hub')
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      response.writeHead(401).end()
      return
    }
    const revision = /^\/api\/models\/org\/name\/revision\/([^/]+)$/.exec(url.pathname)?.[1]
    if (revision !== undefined && revisions.includes(decodeURIComponent(revision))) {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ id: 'org/name', sha: commit, siblings }))
      return
    }
    const path = decodeURIComponent(
      new RegExp(`^/org/name/resolve/${commit}/(.+)$`).exec(url.pathname)?.[1] ?? '',
    )
    const content = files[path]
    if (content === undefined) {
      response.writeHead(404).end()
      return
    }
    if (onFile?.(path, request, response, count) === true) return
    sendFile(request, response, Buffer.from(content))
  })
}

function toSibling(rfilename: string, content: Buffer): object {
  const size = content.length
  if (!rfilename.endsWith('.safetensors')) return { rfilename, size }
  return {
    rfilename,
    size,
    lfs: { sha256: createHash('sha256').update(content).digest('hex'), size, pointerSize: 134 },
  }
}
