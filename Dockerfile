# The worker without plugins. Add yours in two lines:
#   FROM streamer-worker
#   RUN pip install your-plugin
#
# Any base will do that has Python 3.11 or newer with venv: --build-arg BASE=...
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY store store
COPY worker worker
RUN python3 -m venv /opt/streamer-worker \
 && /opt/streamer-worker/bin/pip install --no-cache-dir -c constraints.txt pip . \
 && cp constraints.txt /opt/streamer-worker/

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="streamer-worker" \
      org.opencontainers.image.description="Background worker for requests queued in DynamoDB" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Its user owns the environment, so that the two lines above need no third. What runs has no
# business to write there: run it with a read-only root.
COPY --from=build --chown=65532:65532 /opt/streamer-worker /opt/streamer-worker
ENV PATH=/opt/streamer-worker/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('STREAMER_HTTP_PORT') or 9464}/healthz\", timeout=4)"]
# As process 1 it passes signals on, and buries what handlers have left.
ENTRYPOINT ["streamer-worker"]
CMD ["run"]
