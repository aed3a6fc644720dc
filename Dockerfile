# The worker without plugins. Add your plugin in two lines:
#   FROM streamer-worker
#   RUN pip install your-plugin
#
# --build-arg BASE=... selects another base image with Python 3.11 or newer and venv.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY store store
COPY worker worker
RUN python3 -m venv /opt/streamer-worker \
 && /opt/streamer-worker/bin/pip install --no-cache-dir -c constraints.txt pip . \
 && cp constraints.txt /opt/streamer-worker/

FROM ${BASE} AS worker
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="streamer-worker" \
      org.opencontainers.image.description="Background worker for requests queued in DynamoDB" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The user owns the environment, so that `RUN pip install` works without USER lines. The worker does
# not write to it: run the container with a read-only root.
# glibc returns freed memory: otherwise it keeps up to 10 MB for each thread of a handler.
COPY --from=build --chown=65532:65532 /opt/streamer-worker /opt/streamer-worker
ENV PATH=/opt/streamer-worker/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_TRIM_THRESHOLD_=131072 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('STREAMER_HTTP_PORT') or 9464}/healthz\", timeout=4)"]
# As process 1, the worker forwards signals and reaps orphaned processes of handlers.
ENTRYPOINT ["streamer-worker"]
CMD ["run"]

# The worker with the example plugin. deploy/compose.yaml builds it.
FROM worker AS example
RUN --mount=type=bind,source=examples/reports-plugin,target=/tmp/plugin pip install /tmp/plugin

# The image that is built unless another target is named.
FROM worker
