# The image of the action. Its last stage holds one top-level folder and nothing
# else: inside the runner's container Towline moves a stage's root filesystem into
# place, and an entry that an image layer holds could not be moved out of the way.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w" -o /out/towline .

FROM scratch
COPY --from=build /out/towline /towline/towline
ENTRYPOINT ["/towline/towline"]
