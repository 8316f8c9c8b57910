# One image for every process: `docker run IMAGE worker shop.functions:app`, `… serve --host 0.0.0.0 --allow-host NAME` with keys.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY stepstream stepstream
COPY bus bus
COPY checkpoint checkpoint
COPY producers producers
COPY consumers consumers
COPY web web
# Extras of pyproject.toml: traces, and large results in S3. Less is --build-arg EXTRAS=
ARG EXTRAS=otel,blobs
RUN python -m venv /opt/stepstream && /opt/stepstream/bin/pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home stepstream
COPY --from=build /opt/stepstream /opt/stepstream
COPY --chown=stepstream examples /app/examples
ENV PATH=/opt/stepstream/bin:$PATH PYTHONUNBUFFERED=1 BUS_LOG_FORMAT=json
WORKDIR /app
# By its number, so that Kubernetes sees that it is not root (runAsNonRoot).
USER 10001
ENTRYPOINT ["bus"]
CMD ["--help"]
