# The image: the program, the roots that TLS trusts, and how names are looked up. No shell, no library, nothing to write to.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# `make image-test` builds the last stage and proves it, without a registry.

# Both architectures are built where the build runs; nothing is emulated. The digest is that of the index of all architectures.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
ARG TARGETARCH
WORKDIR /src
COPY image/build.sh image/
RUN image/build.sh tools "$TARGETARCH"
COPY . .
# What was compiled stays in the caches; what the image gets is taken out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    image/build.sh program "$TARGETARCH" /tmp/atdata-bridge && image/root.sh /tmp/atdata-bridge /image

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="atdata-bridge" \
      org.opencontainers.image.description="Mirrors AtData's real-time email events from ActiveMQ into Kafka, NATS JetStream and files" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image /
ENV PATH=/usr/local/bin
# In digits, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["/usr/local/bin/atdata-bridge"]
