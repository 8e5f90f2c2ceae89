# The image has the program, the CA certificates for TLS, and the configuration of name lookup. It has no shell,
# no library and no writable directory.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Without a registry and without docker, `release/build.sh` builds the image of a release, and `make image-test` builds
# and tests the last stage; both through image/layout.sh.

# Both architectures are cross-compiled on the build machine, without emulation. The digest is that of the index of
# all architectures.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
ARG TARGETARCH
WORKDIR /src
COPY image/build.sh image/cargo-tool.sh image/
RUN image/build.sh tools "$TARGETARCH"
COPY . .
# The compiled files stay in the caches; the same step copies the files of the image out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    image/build.sh program "$TARGETARCH" /tmp/atdata-bridge && image/root.sh /tmp/atdata-bridge /image

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
# The time of the revision, as in RFC 3339.
ARG CREATED=unknown
# The addresses of the repository and of the documents of this version.
ARG SOURCE=unknown
ARG DOCUMENTATION=unknown
# There is no base image, so there are no labels base.name and base.digest.
LABEL org.opencontainers.image.title="atdata-bridge" \
      org.opencontainers.image.description="Mirrors AtData's real-time email events from ActiveMQ into Kafka, NATS JetStream and files" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.url="$SOURCE" \
      org.opencontainers.image.documentation="$DOCUMENTATION"
COPY --from=build /image /
ENV PATH=/usr/local/bin
# Numeric, so that Kubernetes can check that it is not root.
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["/usr/local/bin/atdata-bridge"]
