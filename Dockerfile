# The worker without plugins. Add yours in two lines:
#   FROM streamer-worker
#   RUN pip install your-plugin
ARG BASE=python:3.13-slim
FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY store store
COPY worker worker
RUN python3 -m venv /opt/streamer-worker \
 && /opt/streamer-worker/bin/pip install --no-cache-dir -c constraints.txt .

FROM ${BASE}
COPY --from=build /opt/streamer-worker /opt/streamer-worker
ENV PATH=/opt/streamer-worker/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["streamer-worker"]
CMD ["run"]
