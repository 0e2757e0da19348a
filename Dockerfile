# The four services and the command line, each as an image: docker build --target order .
# Targets: order, inventory, payment, shipping, saga. They share all layers but their last, so that five cost no more than
# one, and each holds the one program that it runs. BuildKit and the classic builder both build this file; Compose runs the
# classic one for all targets at once, and each compiles for itself: there, `scripts/offline-images/images build services`
# goes one by one.

# Both must have the same C library: the programs are linked to the builder's.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# The workspace without its code: manifests, and targets that are empty. It changes only when dependencies do.
FROM ${RUST_IMAGE} AS skeleton
COPY . /src
WORKDIR /src
RUN set -eu; \
    find . \( -name Cargo.toml -o -name Cargo.lock -o -path ./.cargo/config.toml -o -path '*/benches/*.rs' \
        -o -path '*/src/lib.rs' -o -path '*/src/main.rs' \) -type f | while read -r file; do \
        mkdir -p "/skeleton/${file%/*}"; \
        case $file in \
            */lib.rs) : >"/skeleton/$file" ;; \
            *.rs) echo 'fn main() {}' >"/skeleton/$file" ;; \
            *) cp "$file" "/skeleton/$file" ;; \
        esac; \
    done
# By this, scripts/offline-images/images finds and removes stages that no name leads to any more. Last: it marks complete ones alone.
LABEL saga.stage=build

FROM ${RUST_IMAGE} AS build
# release, or dev for a build that takes less than half the time.
ARG CARGO_PROFILE=release
# Kafka over TLS and with SASL (an OpenSSL of its own, built from source: the image needs none).
ARG CARGO_FEATURES=saga-service/tls
ENV CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
WORKDIR /src
# The layer of the dependencies: built anew when Cargo.lock or a manifest changes.
COPY --from=skeleton /skeleton .
RUN cargo build --locked --profile "$CARGO_PROFILE" --features "$CARGO_FEATURES" --bins \
        -p order-service -p inventory-service -p payment-service -p shipping-service -p saga-cli
COPY . .
# Cargo goes by times, and the empty targets are newer than the code.
RUN set -eu; \
    find . -path ./target -prune -o -name '*.rs' -exec touch {} +; \
    cargo build --locked --profile "$CARGO_PROFILE" --features "$CARGO_FEATURES" --bins \
        -p order-service -p inventory-service -p payment-service -p shipping-service -p saga-cli; \
    mkdir -p /out/bin /out/data; \
    for name in order-service inventory-service payment-service shipping-service saga; do \
        strip --strip-debug -o "/out/bin/$name" target/*/"$name"; \
    done
LABEL saga.stage=build

# No command runs in this stage: the base needs no shell.
FROM ${RUNTIME_IMAGE} AS runtime
# Whom to trust: PostgreSQL, Kafka and collectors over TLS. Mount another file here for an authority of your own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Where SQLite files go when DATABASE_URL names none (sqlite://./data/...).
COPY --from=build --chown=65532:65532 /out/data /home/saga/data
WORKDIR /home/saga
USER 65532:65532

FROM runtime AS order
COPY --from=build /out/bin/order-service /usr/local/bin/
ENV HTTP_ADDR=0.0.0.0:8081
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["order-service", "--healthcheck"]
ENTRYPOINT ["order-service"]

FROM runtime AS inventory
COPY --from=build /out/bin/inventory-service /usr/local/bin/
ENV HTTP_ADDR=0.0.0.0:8082
EXPOSE 8082
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["inventory-service", "--healthcheck"]
ENTRYPOINT ["inventory-service"]

FROM runtime AS payment
COPY --from=build /out/bin/payment-service /usr/local/bin/
ENV HTTP_ADDR=0.0.0.0:8083
EXPOSE 8083
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["payment-service", "--healthcheck"]
ENTRYPOINT ["payment-service"]

FROM runtime AS shipping
COPY --from=build /out/bin/shipping-service /usr/local/bin/
ENV HTTP_ADDR=0.0.0.0:8084
EXPOSE 8084
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["shipping-service", "--healthcheck"]
ENTRYPOINT ["shipping-service"]

# It runs one command and ends: there is nothing to check.
FROM runtime AS saga
COPY --from=build /out/bin/saga /usr/local/bin/
ENTRYPOINT ["saga"]
