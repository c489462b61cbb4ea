# Built in two stages; the second holds no compiler, no package cache and no root.
# The container wants: a volume on /data (the ledger), and nothing else writable.
#   docker run --read-only --tmpfs /tmp -v ringfence:/data -p 8080:8080 \
#     -v ./keys.yaml:/etc/ringfence/keys.yaml:ro ringfence
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/ringfence
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proxy proxy
COPY audit audit
RUN /opt/ringfence/bin/pip install --no-cache-dir --constraint constraints.txt .
RUN /opt/ringfence/bin/ringfence model pull --dir /opt/model

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data ringfence \
 && install -d -o ringfence -g ringfence -m 0700 /data
COPY --from=build /opt/ringfence /opt/ringfence
COPY --from=build /opt/model /opt/model
COPY policies /etc/ringfence/policies
ENV PATH=/opt/ringfence/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RINGFENCE_HOST=0.0.0.0 \
    RINGFENCE_ALLOWED_HOSTS=localhost,127.0.0.1,ringfence \
    RINGFENCE_KEYS_FILE=/etc/ringfence/keys.yaml \
    RINGFENCE_POLICY_FILE=/etc/ringfence/policies/default.yaml \
    RINGFENCE_DATA_DIR=/data \
    RINGFENCE_MODEL_DIR=/opt/model \
    RINGFENCE_LOG_FORMAT=json
USER ringfence
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["ringfence"]
CMD ["serve"]
